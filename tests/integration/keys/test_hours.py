"""Hours of a key: what they hold, how they read, which calls fell outside, and that they are asked for and told."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from keys import calls, hours
from keys.hours import Hours
from keys.models import Call, KeyRecord
from people.models import User
from tests.factories import make_key, make_user

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = Hours("12345", time(22), time(10), "Europe/Berlin")
DAY = Hours("", time(8), time(18, 30), "UTC")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (Hours(), "any time"),
        (NIGHT, "Mon–Fri, 22:00 to 10:00 Europe/Berlin"),
        (DAY, "any day, 08:00 to 18:30 UTC"),
        (Hours("67"), "Sat, Sun, all day, UTC"),
        (Hours("1237"), "Mon–Wed, Sun, all day, UTC"),
    ],
)
def test_hours_read_as_people_say_them(wanted: Hours, words: str) -> None:
    assert wanted.words == words


@pytest.mark.parametrize(
    ("moment", "is_inside"),
    [
        (datetime(2026, 11, 20, 23, 0, tzinfo=BERLIN), True),  # Friday night
        (datetime(2026, 11, 21, 9, 59, tzinfo=BERLIN), True),  # it goes on into Saturday
        (datetime(2026, 11, 21, 10, 0, tzinfo=BERLIN), False),
        (datetime(2026, 11, 21, 23, 0, tzinfo=BERLIN), False),  # Saturday night is none of its own
        (datetime(2026, 11, 23, 5, 0, tzinfo=BERLIN), False),  # Monday morning belongs to Sunday
        (datetime(2026, 11, 23, 21, 30, tzinfo=UTC), True),  # 22:30 in Berlin
        (datetime(2026, 11, 24, 12, 0, tzinfo=BERLIN), False),
    ],
)
def test_hours_that_span_midnight_belong_to_the_day_on_which_they_begin(
    moment: datetime, is_inside: bool
) -> None:
    assert NIGHT.holds(moment) is is_inside


@pytest.mark.parametrize(
    ("text", "days"), [("", ""), ("mon-fri", "12345"), ("sun,mon", "17"), ("sat-mon", "167"), ("mon-sun", "")]
)
def test_days_are_read_from_the_terminal(text: str, days: str) -> None:
    assert hours.parse_days(text) == days


@pytest.mark.parametrize("text", ["someday", "mon-", "1-5"])
def test_days_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(hours.HoursError, match="mon-fri"):
        hours.parse_days(text)


@pytest.mark.parametrize("text", ["22-10", "24:00-10:00", "22:00", "9:00-10:00"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(hours.HoursError, match="22:00-10:00"):
        hours.parse_span(text)


# --- calls outside ------------------------------------------------------------------------------------------------------


def call_at(key: KeyRecord, at: datetime, **more: Any) -> None:
    given = {"route": "email-search", "scope": "email-search:single", "worker": "w", "outcome": "ok", **more}
    calls.write(Call(account=key.account, key=key, at=at, **given))


@pytest.mark.django_db
@pytest.mark.parametrize(
    "wanted", [NIGHT, DAY, Hours("67"), Hours("136", time(9, 15), time(9, 45), "Asia/Kolkata")]
)
def test_calls_outside_are_those_that_the_hours_do_not_hold(wanted: Hours) -> None:
    key = make_key(
        hours_days=wanted.days, hours_begin=wanted.begin, hours_end=wanted.end, time_zone=wanted.zone
    )
    now = timezone.now()
    moments = [now - timedelta(minutes=97 * number) for number in range(200)]
    for moment in moments:
        call_at(key, moment)

    found = hours.outside(key)

    missed = [moment for moment in moments if not wanted.holds(moment)]
    assert (found.calls, found.last_at) == (len(missed), max(missed))


@pytest.mark.django_db
def test_tests_balance_checks_refusals_and_old_calls_are_not_outside() -> None:
    key = make_key(hours_days=str((timezone.now() - timedelta(days=1)).isoweekday()))
    now = timezone.now()
    call_at(key, now, is_probe=True, scope="account:read")
    call_at(key, now, scope="account:read")
    call_at(key, now, outcome="policy_scope")
    call_at(key, now - timedelta(days=31))
    assert hours.outside(key).calls == 0

    call_at(key, now)
    assert hours.outside(key).calls == 1


# --- form, page, terminal -----------------------------------------------------------------------------------------------


@pytest.fixture
def admin(client: Client, db: None) -> User:
    person = make_user(name="Mira Okafor", role="key_admin", time_zone="Europe/Berlin")
    client.force_login(person)
    return person


def new(admin: User, **more: Any) -> dict[str, Any]:
    return {
        "environment": "sandbox",
        "system": "training",
        "label": "revops",
        "owner": admin.id,
        "purpose": "Training",
        "scopes": ["leads:search"],
        "secret_ref": "env:ICYPEAS_KEY_T",
        "rotation_days": "90",
        "hours_days": ["1", "2", "3", "4", "5"],
        "hours_begin": "22:00",
        "hours_end": "10:00",
        "time_zone": "Europe/Berlin",
        **more,
    }


def test_form_takes_hours_and_the_page_tells_them(client: Client, admin: User) -> None:
    client.post("/keys/new/", new(admin))

    assert hours.of(KeyRecord.objects.get()) == NIGHT
    page = client.get("/keys/sandbox_training_revops/").content.decode()
    assert "Mon–Fri, 22:00 to 10:00 Europe/Berlin" in page


def test_new_form_begins_in_the_person_s_own_zone(client: Client, admin: User) -> None:
    assert '<option value="Europe/Berlin" selected>' in client.get("/keys/new/").content.decode()


@pytest.mark.parametrize(
    ("told", "field", "said"),
    [
        ({"hours_end": ""}, "hours_end", "both hours, or neither"),
        ({"hours_begin": ""}, "hours_begin", "both hours, or neither"),
        ({"hours_end": "22:00"}, "hours_end", "end when they begin"),
        ({"hours_begin": "late"}, "hours_begin", "valid time"),
        ({"time_zone": "Mars/Base"}, "time_zone", "not one of the available choices"),
        ({"hours_days": ["9"]}, "hours_days", "not one of the available choices"),
    ],
)
def test_hours_are_refused_at_the_field(
    client: Client, admin: User, told: dict[str, Any], field: str, said: str
) -> None:
    answer = client.post("/keys/new/", new(admin, **told))

    assert answer.status_code == 422
    assert said in " ".join(answer.context["form"].errors[field])


def test_edit_keeps_hours_and_the_history_tells_their_change(client: Client, admin: User) -> None:
    client.post("/keys/new/", new(admin))
    url = "/keys/sandbox_training_revops/"
    form = client.get(f"{url}edit/").context["form"]
    told = {name: form[name].value() for name in form.fields if form[name].value() is not None}

    client.post(f"{url}edit/", {**told, "hours_days": [], "preset": "", "reason": "every day now"})

    page = client.get(url).content.decode()
    assert "any day, 22:00 to 10:00 Europe/Berlin" in page
    assert "Mon–Fri 22:00 to 10:00 Europe/Berlin → any day 22:00 to 10:00 Europe/Berlin" in page


def test_page_says_when_now_is_outside(client: Client, admin: User) -> None:
    yesterday = (timezone.now() - timedelta(days=1)).isoweekday()
    key = make_key("sandbox_training_revops", hours_days=str(yesterday))
    call_at(key, timezone.now())

    page = client.get("/keys/sandbox_training_revops/").content.decode()

    assert "now is outside of them" in page
    assert "1 call outside in 30 days" in page


def test_terminal_takes_hours(db: None) -> None:
    make_user("mira@desk.example")
    words = [
        "--environment",
        "sandbox",
        "--system",
        "training",
        "--label",
        "ops",
        "--owner",
        "mira@desk.example",
    ]
    words += ["--purpose", "Training", "--scopes", "one_off_testing", "--secret", "env:ICYPEAS_KEY_T"]
    more = ["--hours", "22:00-10:00", "--days", "mon-fri", "--time-zone", "Europe/Berlin"]
    out = StringIO()

    call_command("key", "create", *words, *more, stdout=out)
    call_command("key", "show", "sandbox_training_ops", stdout=out)

    assert "Mon–Fri, 22:00 to 10:00 Europe/Berlin" in out.getvalue()
    with pytest.raises(CommandError, match="late"):
        call_command("key", "create", *words, "--hours", "late")


def test_day_of_the_cap_follows_the_zone_of_the_form(client: Client, admin: User) -> None:
    client.post("/keys/new/", new(admin, time_zone="Asia/Tokyo", daily_cap="5"))

    key = KeyRecord.objects.get()
    assert (key.time_zone, key.daily_cap) == ("Asia/Tokyo", Decimal(5))
