"""From an operation and a list to a started job."""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from enrichment.choices import JobState
from enrichment.models import EnrichmentJob
from keys.choices import KeyState
from keys.models import KeyRecord, LedgerEntry, Presence, Worker
from people.models import AuditEntry, User
from tests import factories

pytestmark = pytest.mark.django_db
AsPerson = Callable[[User], Client]

LIST = "First name;Last name;Website;Organisation;Note\nAnn;Lee;firm1.example;One;x\nBob;Ray;gmail.com;Two;\n;;firm3.example;Three;\nAnn;Lee;firm1.example;One;y\n"


@pytest.fixture
def user() -> User:
    return factories.make_user(team=factories.make_team(), name="Ana Duarte")


@pytest.fixture
def key() -> KeyRecord:
    return factories.make_key(account=factories.make_account("Sandbox", balance=100))


def draft_of(user: User, text: str = LIST, **changes: Any) -> EnrichmentJob:
    return factories.make_job_from_file(text.encode(), created_by=user, operation="email-search", **changes)


def words(response: Any) -> str:
    """What the page says, tags and white space aside."""
    text = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", html.unescape(text))


def order(job: EnrichmentJob, record: KeyRecord, **changes: str) -> dict[str, str]:
    return {
        "key": str(record.id),
        "freshness_days": "90",
        "purpose": "Expo follow-up",
        "token": job.start_token,
        **changes,
    }


def htmx(target: str) -> dict[str, str]:
    return {"HX-Request": "true", "HX-Target": target}


def csv_file(content: bytes, name: str = "list.csv") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, content_type="text/csv")


# --- who may, and what there is ---------------------------------------------------------------------------------------------


def test_every_step_sends_to_the_log_in_without_a_person(client: Client) -> None:
    for path in ("/jobs/new/", "/jobs/new/email-search/", "/jobs/1/review/", "/jobs/1/skipped.csv"):
        assert client.get(path).headers["Location"].startswith("/login/")
    for path in ("/jobs/1/start/", "/jobs/1/discard/", "/jobs/1/balance/"):
        assert client.post(path).headers["Location"].startswith("/login/")


def test_new_job_refuses_a_viewer_and_names_who_can(as_person: AsPerson, user: User) -> None:
    client = as_person(factories.make_user(role="viewer"))

    for path in ("/jobs/new/", "/jobs/new/email-search/"):
        response = client.get(path)
        assert response.status_code == 403
        assert "Ana Duarte can." in words(response)


def test_steps_of_a_draft_are_not_there_for_another_team(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user)
    client = as_person(factories.make_user(team=factories.make_team()))

    assert client.get(f"/jobs/{job.id}/review/").status_code == 404
    assert client.get(f"/jobs/{job.id}/skipped.csv").status_code == 404
    for step in ("start", "discard", "balance"):
        assert client.post(f"/jobs/{job.id}/{step}/", order(job, key)).status_code == 404
    job.refresh_from_db()
    assert job.state == JobState.DRAFT


def test_steps_of_an_unknown_number_are_not_there(as_person: AsPerson, user: User) -> None:
    client = as_person(user)

    assert client.get("/jobs/999999/review/").status_code == 404
    assert client.post("/jobs/999999/start/").status_code == 404
    assert client.get("/jobs/new/no-such-operation/").status_code == 404


def test_steps_refuse_the_wrong_method(as_person: AsPerson, user: User) -> None:
    job, client = draft_of(user), as_person(user)

    assert client.post("/jobs/new/").status_code == 405
    assert client.put("/jobs/new/email-search/").status_code == 405
    for step in ("start", "discard", "balance"):
        assert client.put(f"/jobs/{job.id}/{step}/").status_code == 405
    assert client.post(f"/jobs/{job.id}/skipped.csv").status_code == 405


def test_reload_after_a_refused_start_leads_back_to_the_review(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job, client = draft_of(user), as_person(user)
    assert client.post(f"/jobs/{job.id}/start/", order(job, key, purpose="")).status_code == 422

    for step in ("start", "discard", "balance"):
        response = client.get(f"/jobs/{job.id}/{step}/", follow=True)
        assert response.redirect_chain[-1][0] == f"/jobs/{job.id}/review/"
        assert response.status_code == 200
    job.refresh_from_db()
    assert job.state == JobState.DRAFT


def test_key_admin_of_another_team_may_not_see_the_rows_of_a_draft(as_person: AsPerson, user: User) -> None:
    job = draft_of(user)

    response = as_person(factories.make_user(role="key_admin", team=factories.make_team())).get(
        f"/jobs/{job.id}/review/"
    )

    assert response.status_code == 403
    assert "Ann" not in words(response)


def test_viewer_of_the_team_looks_at_a_draft_and_changes_nothing(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user)
    client = as_person(factories.make_user(role="viewer", team=user.team))

    page = client.get(f"/jobs/{job.id}/review/")
    assert page.status_code == 200
    assert re.search("You may look at this draft. .*Ana Duarte.* can change and start it.", words(page))
    assert "Skip this" not in words(page)
    assert client.post(f"/jobs/{job.id}/review/", {"skip": "free_mail_domain"}).status_code == 403
    assert client.post(f"/jobs/{job.id}/start/", order(job, key)).status_code == 403
    assert client.post(f"/jobs/{job.id}/discard/").status_code == 403
    job.refresh_from_db()
    assert (job.state, job.skip_codes) == (JobState.DRAFT, [])


# --- operation and list -----------------------------------------------------------------------------------------------------


def test_new_job_offers_every_operation_with_its_price(as_person: AsPerson, user: User) -> None:
    text = words(as_person(user).get("/jobs/new/"))

    assert "1 credit per email found, nothing when none is found" in text
    assert "0.1 credit per verification, whatever the answer" in text


def test_price_above_one_credit_is_named_in_the_plural(as_person: AsPerson, user: User) -> None:
    assert "10 credits per profile found" in words(as_person(user).get("/jobs/new/"))


def test_uploaded_file_becomes_a_checked_draft(as_person: AsPerson, user: User) -> None:
    response = as_person(user).post(
        "/jobs/new/email-search/", {"file": csv_file(LIST.encode()), "name": " Autumn  list "}
    )

    job = EnrichmentJob.objects.get()
    assert (response.status_code, response.headers["Location"]) == (303, f"/jobs/{job.id}/review/")
    assert (job.name, job.upload and job.upload.name) == ("Autumn list", "list.csv")
    assert (job.is_checked, job.rows_total, job.rows_skipped) == (True, 4, 1)


def test_pasted_rows_become_a_checked_draft(as_person: AsPerson, user: User) -> None:
    response = as_person(user).post("/jobs/new/email-verification/", {"text": "Email\r\na@firm.example\r\n"})

    assert response.status_code == 303
    job = EnrichmentJob.objects.get()
    assert (job.name, job.rows_total, job.rows_waiting) == ("pasted-list", 1, 1)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"PK\x03\x04" + b"x" * 50, "ZIP archive"),
        (b"Email\n", "no row below it"),
        (b"Email\na\x00b@firm.example\n", "NUL"),
        (",".join(f"c{number}" for number in range(300)).encode() + b"\n1\n", "300"),
    ],
)
def test_file_that_is_no_list_is_refused_with_its_reason_at_the_field(
    as_person: AsPerson, user: User, content: bytes, said: str
) -> None:
    response = as_person(user).post("/jobs/new/email-search/", {"file": csv_file(content)})

    assert response.status_code == 422
    assert re.search(r'id="id_file_error"[^>]*>.*?' + said, response.content.decode(), re.DOTALL)
    assert not EnrichmentJob.objects.exists()


@pytest.mark.parametrize(
    ("content", "how", "rows"),
    [
        ("Email\nzoë@firm.example\n".encode("utf-16-le"), {"encoding": "utf-16-le"}, 1),
        (b"firm.example\n", {"has_header": "no"}, 1),
        (b"Email\tName\na@firm.example\tA, B, C\n", {"delimiter": "\t"}, 1),
    ],
    ids=["UTF-16 without a mark", "one line", "tabs"],
)
def test_file_that_is_read_wrongly_by_itself_is_taken_as_the_person_says(
    as_person: AsPerson, user: User, content: bytes, how: dict[str, str], rows: int
) -> None:
    operation = "domain-search" if b"Email" not in content.replace(b"\0", b"") else "email-verification"
    client = as_person(user)

    response = client.post(f"/jobs/new/{operation}/", {"file": csv_file(content), **how})

    assert response.status_code == 303
    assert EnrichmentJob.objects.get().rows_total == rows


def test_refused_file_shows_how_it_may_be_read_instead(as_person: AsPerson, user: User) -> None:
    response = as_person(user).post("/jobs/new/domain-search/", {"file": csv_file(b"firm.example\n")})

    assert response.status_code == 422
    assert '<details class="why" id="upload-reading" open>' in response.content.decode()


def test_upload_without_a_list_and_with_two_is_refused(as_person: AsPerson, user: User) -> None:
    client = as_person(user)

    neither = client.post("/jobs/new/email-search/", {})
    both = client.post("/jobs/new/email-search/", {"file": csv_file(LIST.encode()), "text": LIST})

    assert (neither.status_code, both.status_code) == (422, 422)
    assert "Choose a file, or paste rows below." in words(neither)
    assert "Leave one of them out." in words(both)


ACCENTS = "First name;Last name;Website\nJürgen;Groß;firm1.example\nZoë;Ålund;firm2.example\n"


@pytest.mark.parametrize(
    ("content", "chosen", "said"),
    [
        (ACCENTS.encode("utf-8-sig"), "utf-8", "UTF-8 with BOM"),
        (codecs.BOM_UTF16_LE + ACCENTS.encode("utf-16-le"), "utf-16-le", "UTF-16 (little endian) with BOM"),
        (codecs.BOM_UTF16_BE + ACCENTS.encode("utf-16-be"), "utf-16-be", "UTF-16 (big endian) with BOM"),
        (ACCENTS.encode("cp1252"), "cp1252", "Windows-1252"),
        (ACCENTS.encode("latin-1"), "cp1252", "Windows-1252"),
    ],
    ids=["utf-8", "utf-16-le", "utf-16-be", "cp1252", "latin-1"],
)
def test_review_says_the_encoding_and_reads_the_file_in_another(
    as_person: AsPerson, user: User, content: bytes, chosen: str, said: str
) -> None:
    client = as_person(user)
    review = client.post("/jobs/new/email-search/", {"file": csv_file(content)}).headers["Location"]

    page = client.get(review)
    assert said in words(page)
    assert "Jürgen" in words(page)
    assert re.search(rf'<option value="{chosen}" selected', page.content.decode())

    again = client.post(review, {"encoding": "mac-roman", "delimiter": ";", "has_header": "yes"})
    # With UTF-16 every second byte is a NUL then: refused, and the draft stays as it was read.
    if chosen.startswith("utf-16"):
        assert again.status_code == 422
        assert re.search(r'id="id_encoding_error"[^>]*>.*?NUL byte', again.content.decode(), re.DOTALL)
        assert f"semicolon, {said}" in words(client.get(review))
    else:
        assert again.status_code == 303
        assert "semicolon, Mac Roman" in words(client.get(review))
        assert "Jürgen" not in words(client.get(review))

    back = client.post(review, {"encoding": chosen, "delimiter": ";", "has_header": "yes"})
    assert back.status_code == 303
    assert "Jürgen" in words(client.get(review))


@pytest.mark.parametrize("size", [5.1, 9])
def test_paste_above_the_limit_is_refused_at_the_field(as_person: AsPerson, user: User, size: float) -> None:
    line = "Ann;Lee;firm1.example\n"
    text = line * int(size * 1024 * 1024 / len(line))

    response = as_person(user).post("/jobs/new/email-search/", {"text": text})

    assert response.status_code == 422
    assert re.search(r'id="id_text_error"[^>]*>.*?up to 5 MB', response.content.decode(), re.DOTALL)
    assert "Save them as a CSV file and upload it above." in words(response)
    assert "Choose a file, or paste rows below." not in words(response)
    assert not EnrichmentJob.objects.exists()


def test_upload_without_the_token_of_its_page_is_refused(user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(user)

    assert client.post("/jobs/new/email-search/", {"text": LIST}).status_code == 403
    assert not EnrichmentJob.objects.exists()

    client.get("/jobs/new/email-search/")
    told = {"text": LIST, "csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    assert client.post("/jobs/new/email-search/", told).status_code == 303


# --- review ----------------------------------------------------------------------------------------------------------------


def test_review_shows_file_columns_values_and_cost(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    job = draft_of(user)

    text = words(as_person(user).get(f"/jobs/{job.id}/review/"))

    assert "list.csv 4 rows, 5 columns semicolon, UTF-8, header in row 1" in text
    assert "1 other column is kept as it is and comes back in the same order." in text
    assert "Will be asked 2 at most 1 credit each" in text
    assert "Duplicates 1 asked once" in text
    assert "Will be skipped 1 stay in the export" in text
    assert "Skipped rows 1" in text
    assert "Start, at most 2 credits" in text
    assert "Left if all is charged 98" in text


def test_review_says_when_now_is_outside_the_hours_of_the_key_and_starts_all_the_same(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user)
    said = f"This is outside the hours of {key.name}: "
    assert said not in words(as_person(user).get(f"/jobs/{job.id}/review/"))
    yesterday = (timezone.now() - timedelta(days=1)).isoweekday()
    KeyRecord.objects.filter(id=key.id).update(hours_days=str(yesterday))

    page = as_person(user).get(f"/jobs/{job.id}/review/")
    started = as_person(user).post(f"/jobs/{job.id}/start/", order(job, key))

    assert said in words(page)
    assert "nothing is refused" in words(page)
    assert (started.status_code, started["Location"]) == (303, f"/jobs/{job.id}/")


def test_review_of_a_started_job_leads_to_its_page(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    job = factories.start(draft_of(user), key)
    client = as_person(user)

    assert client.get(f"/jobs/{job.id}/review/").headers["Location"] == f"/jobs/{job.id}/"
    region = client.get(f"/jobs/{job.id}/review/", headers=htmx("review-check"))
    assert region.headers["HX-Redirect"] == f"/jobs/{job.id}/"


def test_review_says_why_each_other_key_is_not_offered(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    factories.make_key("sandbox_narrow_x", scopes=["email-verification:bulk"])
    factories.make_key("sandbox_draft_y", state=KeyState.DRAFT)
    job = draft_of(user)

    response = as_person(user).get(f"/jobs/{job.id}/review/")

    text = words(response)
    assert "1 of 3 keys can be used here" in text
    assert "sandbox_narrow_x does not have the scope email-search:bulk" in text
    assert "sandbox_draft_y is draft" in text
    options = re.search(r'<select name="key".*?</select>', response.content.decode(), re.DOTALL)
    assert options
    assert "narrow" not in options[0]


def test_key_of_the_own_team_is_chosen_first_and_another_team_is_named_where_it_pays(
    as_person: AsPerson, user: User
) -> None:
    user.team = factories.make_team("RevOps")
    user.save()
    other = factories.make_key(team=factories.make_team("Growth"), last_used_at=timezone.now())
    own = factories.make_key(team=user.team)
    job = draft_of(user)
    client = as_person(user)

    page = client.get(f"/jobs/{job.id}/review/")
    assert f'<option value="{own.id}" selected>' in page.content.decode()
    assert "another team" not in words(page)
    page = client.get(f"/jobs/{job.id}/review/?key={other.id}")
    assert "This key belongs to Growth, another team, whose budget pays for this job." in words(page)


def test_key_whose_secret_no_worker_finds_is_not_offered(as_person: AsPerson, user: User) -> None:
    lost = factories.make_key("sandbox_lists_lost", secret_ref="env:LOST")
    unknown = factories.make_key("sandbox_lists_unknown", secret_ref="env:UNKNOWN")
    half = factories.make_key("sandbox_lists_half", secret_ref="env:HALF")
    job = draft_of(user)
    said = f"No running worker finds the secret of {lost.name}"
    assert said not in words(as_person(user).get(f"/jobs/{job.id}/review/"))
    for name in ("w1", "w2"):
        Worker.objects.create(name=name, reports=True, seen_at=timezone.now())
        for reference, fingerprint in (("env:LOST", ""), ("env:HALF", "abc" if name == "w1" else "")):
            Presence.objects.create(
                worker=name,
                reference=reference,
                fingerprint=fingerprint,
                problem="" if fingerprint else "Nothing there.",
                seen_at=timezone.now(),
                changed_at=timezone.now(),
            )

    page = as_person(user).get(f"/jobs/{job.id}/review/")

    assert said in words(page)
    options = re.search(r'<select name="key".*?</select>', page.content.decode(), re.DOTALL)
    assert options
    assert [str(key) in options[0] for key in (lost, unknown, half)] == [False, True, True]
    KeyRecord.objects.exclude(id=lost.id).update(state=KeyState.QUARANTINED, scopes=[])
    alone = as_person(user).get(f"/jobs/{job.id}/review/")
    assert f"No key can be used for this now. {said}" in words(alone)
    refused = as_person(user).post(f"/jobs/{job.id}/start/", order(job, lost))
    assert refused.status_code == 422
    assert said in words(refused)


def test_review_without_any_key_keeps_the_start_disabled(as_person: AsPerson, user: User) -> None:
    job = draft_of(user)

    response = as_person(user).get(f"/jobs/{job.id}/review/")

    assert "No key may do this: none has the scope email-search:bulk." in words(response)
    assert re.search(r"button--primary button--large[^>]* disabled", response.content.decode())


@pytest.mark.parametrize(
    ("balance", "cap", "said"), [(1, None, "1 are available on Tiny"), (100, "1", "cap")]
)
def test_review_disables_the_start_over_balance_and_over_cap(
    as_person: AsPerson, user: User, balance: int, cap: str | None, said: str
) -> None:
    key = factories.make_key(
        account=factories.make_account("Tiny", balance=balance), daily_cap=Decimal(cap) if cap else None
    )
    job = draft_of(user)

    response = as_person(user).get(f"/jobs/{job.id}/review/")
    started = as_person(user).post(f"/jobs/{job.id}/start/", order(job, key))

    assert "This can cost 2 credits" in words(response)
    assert said in words(response)
    assert "That is enough for 1 rows." in words(response)
    assert started.status_code == 422  # past the form the same refusal
    job.refresh_from_db()
    assert job.state == JobState.DRAFT
    assert not LedgerEntry.objects.exists()


def test_review_reloads_the_figures_for_another_key_and_freshness(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    rich = factories.make_key(account=factories.make_account("Rich", balance=5000))
    job = draft_of(user)

    response = as_person(user).get(
        f"/jobs/{job.id}/review/?key={rich.id}&freshness_days=0", headers=htmx("review-cost")
    )

    page = response.content.decode()
    assert "Account Rich" in words(response)
    assert page.count('hx-swap-oob="true"') == 3
    assert 'id="review-columns"' not in page
    assert "HX-Request" in response.headers["Vary"]


def test_review_takes_nonsense_in_the_address_for_nothing(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user)

    response = as_person(user).get(f"/jobs/{job.id}/review/?key=abc&freshness_days=-7")

    assert response.status_code == 200
    assert "Start, at most 2 credits" in words(response)


def test_other_columns_check_the_rows_again(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    job = draft_of(user)
    client = as_person(user)

    response = client.post(
        f"/jobs/{job.id}/review/?key={key.id}",
        {"column-first_name": "0", "column-last_name": "", "column-domain": "4"},
    )

    assert (response.status_code, response.headers["Location"]) == (
        303,
        f"/jobs/{job.id}/review/?key={key.id}",
    )
    job.refresh_from_db()
    assert job.mapping == {"first_name": 0, "domain": 4}
    assert (job.rows_waiting, job.rows_skipped) == (2, 2)
    assert "chosen by a person" in words(client.get(f"/jobs/{job.id}/review/"))


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"column-first_name": "0"}, "No column gives the domain or website or the company name."),
        ({"column-first_name": "0", "column-domain": "0"}, "This column feeds “First name” already."),
        ({"column-first_name": "99", "column-domain": "2"}, "99 is not one of the available choices"),
    ],
)
def test_columns_that_cannot_work_are_refused_and_block_the_start(
    as_person: AsPerson, user: User, key: KeyRecord, sent: dict[str, str], said: str
) -> None:
    job = draft_of(user)

    response = as_person(user).post(f"/jobs/{job.id}/review/", sent, headers=htmx("review-columns"))

    assert response.status_code == 422
    assert said in words(response)
    assert "The columns on the page are not taken yet" in words(response)
    before = job.mapping
    job.refresh_from_db()
    assert job.mapping == before


def test_warning_is_skipped_and_asked_again_by_one_press(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user)
    client = as_person(user)
    assert "Skip this 1 row" in words(client.get(f"/jobs/{job.id}/review/"))

    skipped = client.post(
        f"/jobs/{job.id}/review/", {"skip": "free_mail_domain"}, headers=htmx("review-check")
    )
    assert "Start, at most 1 credit " in words(skipped)
    assert "Ask it anyway" in words(skipped)
    client.post(f"/jobs/{job.id}/review/", {"ask": "free_mail_domain"})

    job.refresh_from_db()
    assert (job.skip_codes, job.rows_skipped) == ([], 1)


def test_file_is_read_another_way(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    job = draft_of(user)

    response = as_person(user).post(
        f"/jobs/{job.id}/review/", {"encoding": "utf-8", "delimiter": ";", "has_header": "no"}
    )

    assert response.status_code == 303
    job.refresh_from_db()
    assert job.rows_total == 5


def test_reading_that_cannot_be_is_refused_at_its_field(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user, "Name;Web\nJürgen;firm.example\n")

    response = as_person(user).post(
        f"/jobs/{job.id}/review/", {"encoding": "utf-16-le", "delimiter": ";", "has_header": "yes"}
    )

    assert response.status_code == 422
    assert 'id="id_encoding_error"' in response.content.decode()
    job.refresh_from_db()
    assert job.rows_total == 1


def test_recalculate_without_script_keeps_the_purpose(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    job = draft_of(user)

    response = as_person(user).post(
        f"/jobs/{job.id}/review/", {**order(job, key), "freshness_days": "7", "recalculate": "yes"}
    )

    page = response.content.decode()
    assert response.status_code == 200
    assert "Expo follow-up</textarea>" in page
    assert '<option value="7" selected>' in page


def test_review_names_the_jobs_that_known_answers_come_from(as_person: AsPerson, engine: Any) -> None:
    first = factories.start(factories.make_job(3, created_by=engine.person), engine.key)
    engine.run(first)
    again = factories.make_job(3, created_by=engine.person)

    text = words(as_person(engine.person).get(f"/jobs/{again.id}/review/?key={engine.key.id}"))

    assert "Already known 3 saves up to 0.3 credits" in text
    assert f"Known answers come from #{first.id} list" in text
    assert "Start, at most 0 credits" in text
    assert "so this costs nothing" in text


# --- while a worker checks -------------------------------------------------------------------------------------------------


def unchecked(user: User) -> EnrichmentJob:
    return draft_of(user, is_checked=False, rows_total=2, rows_skipped=1, rows_waiting=1)


def test_review_is_usable_and_polled_while_a_worker_checks(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    Worker.objects.create(name="worker-1", seen_at=timezone.now())
    job = unchecked(user)
    client = as_person(user)

    response = client.get(f"/jobs/{job.id}/review/")

    assert "2 rows checked so far" in words(response)
    assert "The rows are still being checked." in words(response)
    address = re.search(r'data-poll-seconds="2" hx-get="([^"]+)"', response.content.decode())
    assert address
    assert client.get(address[1], headers=htmx("review-check")).status_code == 204
    EnrichmentJob.objects.filter(id=job.id).update(rows_total=3)
    assert "3 rows checked so far" in words(client.get(address[1], headers=htmx("review-check")))
    EnrichmentJob.objects.filter(id=job.id).update(is_checked=True, rows_total=4)
    finished = client.get(address[1], headers=htmx("review-check")).content.decode()
    assert "data-poll-seconds" not in finished
    assert "data-announce" in finished


def test_review_says_when_no_worker_can_check(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    Worker.objects.create(name="worker-1", seen_at=timezone.now() - timedelta(hours=1))

    assert "No worker answers." in words(as_person(user).get(f"/jobs/{unchecked(user).id}/review/"))


def test_large_list_is_left_to_a_worker(
    as_person: AsPerson, user: User, settings: Any, wakes: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    settings.IMPORT_INLINE_BYTES = 10

    with django_capture_on_commit_callbacks(execute=True):
        response = as_person(user).post("/jobs/new/email-search/", {"file": csv_file(LIST.encode())})

    job = EnrichmentJob.objects.get()
    assert response.status_code == 303
    assert not job.is_checked
    assert wakes == [("run_check", job.id, "work")]


# --- balance, start, discard -----------------------------------------------------------------------------------------------


def test_balance_is_asked_for_once_a_minute(
    as_person: AsPerson, user: User, wakes: list[Any], django_capture_on_commit_callbacks: Any
) -> None:
    account = factories.make_account("Old", balance=100)
    key = factories.make_key(account=account)
    account.balance_asked_at = timezone.now() - timedelta(hours=2)
    account.save()
    job, client = draft_of(user), as_person(user)
    assert "Read the balance" in words(client.get(f"/jobs/{job.id}/review/"))

    with django_capture_on_commit_callbacks(execute=True):
        asked = client.post(f"/jobs/{job.id}/balance/?key={key.id}", headers=htmx("review-cost"))
        client.post(f"/jobs/{job.id}/balance/?key={key.id}")

    assert "Being read" in words(asked)
    assert "Read the balance" not in words(asked)
    assert 'data-poll-seconds="2"' in asked.content.decode()
    assert wakes == [("read_balance", account.id, "urgent")]


def test_start_reserves_queues_and_leads_to_the_job(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    job = draft_of(user)

    response = as_person(user).post(f"/jobs/{job.id}/start/", order(job, key, max_credits="2.000"))

    assert (response.status_code, response.headers["Location"]) == (303, f"/jobs/{job.id}/")
    job.refresh_from_db()
    assert (job.state, job.key, job.purpose) == (JobState.QUEUED, key, "Expo follow-up")
    assert [(entry.kind, entry.credits) for entry in LedgerEntry.objects.all()] == [("reserved", Decimal(2))]
    assert AuditEntry.objects.filter(action="job.started", actor=user).count() == 1


def test_start_pressed_twice_starts_one_job(as_person: AsPerson, user: User, key: KeyRecord) -> None:
    job, client = draft_of(user), as_person(user)

    answers = [client.post(f"/jobs/{job.id}/start/", order(job, key)) for _ in range(2)]

    assert [answer.headers["Location"] for answer in answers] == [f"/jobs/{job.id}/"] * 2
    assert LedgerEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"purpose": "  "}, "Say what this is for"),
        ({"purpose": "x" * 301}, "at most 300 characters"),
        ({"key": "999999"}, "There is no such key here."),
        ({"freshness_days": "-1"}, "-1 is not one of the available choices"),
        ({"token": "another page's"}, "This page is out of date."),
        ({"max_credits": "1"}, "The figures changed since you saw them."),
    ],
)
def test_start_refuses_and_keeps_the_draft(
    as_person: AsPerson, user: User, key: KeyRecord, changes: dict[str, str], said: str
) -> None:
    job = draft_of(user)

    response = as_person(user).post(f"/jobs/{job.id}/start/", order(job, key, **changes))

    assert response.status_code == 422
    assert said in words(response)
    job.refresh_from_db()
    assert job.state == JobState.DRAFT
    assert not LedgerEntry.objects.exists()


def test_start_with_a_key_that_was_not_offered_says_why(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    narrow = factories.make_key("sandbox_narrow_x", scopes=["email-verification:bulk"])
    job = draft_of(user)

    response = as_person(user).post(f"/jobs/{job.id}/start/", order(job, narrow))

    assert response.status_code == 422
    error = re.search(r'id="id_key_error".*?</p>', response.content.decode(), re.DOTALL)
    assert error
    assert "sandbox_narrow_x does not have the scope email-search:bulk" in error[0]


def test_same_file_is_started_again_only_when_asked_for(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    first = factories.start(draft_of(user), key)
    job, client = draft_of(user), as_person(user)

    refused = client.post(f"/jobs/{job.id}/start/", order(job, key))
    again = client.post(f"/jobs/{job.id}/start/", order(job, key, again="on"))

    assert refused.status_code == 422
    assert f"Job #{first.id} list" in words(refused)
    assert "Run it again all the same" in words(refused)
    assert again.headers["Location"] == f"/jobs/{job.id}/"


def test_discard_ends_a_draft_and_leaves_a_started_job_alone(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    draft, started = draft_of(user), factories.start(draft_of(user), key)
    client = as_person(user)

    discarded = client.post(f"/jobs/{draft.id}/discard/")
    kept = client.post(f"/jobs/{started.id}/discard/")

    assert discarded.headers["Location"] == "/jobs/"
    assert kept.headers["Location"] == f"/jobs/{started.id}/"
    draft.refresh_from_db()
    started.refresh_from_db()
    assert (draft.state, started.state) == (JobState.CANCELLED, JobState.QUEUED)


def test_skipped_rows_come_home_with_their_reason(as_person: AsPerson, user: User) -> None:
    job = draft_of(user)

    response = as_person(user).get(f"/jobs/{job.id}/skipped.csv")

    lines = b"".join(response.streaming_content).decode().splitlines()  # type: ignore[attr-defined]
    assert response.headers["Content-Disposition"] == f'attachment; filename="list-{job.id}-skipped.csv"'
    assert len(lines) == 2
    assert lines[1].startswith(";;firm3.example;Three;;skipped;There is neither a first nor a last name")


def test_review_takes_as_many_queries_for_fifty_rows_as_for_one(
    as_person: AsPerson, user: User, key: KeyRecord
) -> None:
    small = factories.make_job(1, created_by=user)
    large = factories.make_job(50, created_by=user)
    client = as_person(user)
    client.get(f"/jobs/{small.id}/review/")

    with CaptureQueriesContext(connection) as with_one:
        client.get(f"/jobs/{small.id}/review/")
    with CaptureQueriesContext(connection) as with_fifty:
        client.get(f"/jobs/{large.id}/review/")

    assert len(with_fifty) == len(with_one)
