"""Notices: told once, read by their person alone, mailed once a day."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from enrichment import tasks
from people import chores, digests, notices
from people.models import Digest, Notice, User
from tests import factories
from tests.fakes.mail_server import MailServer, run_mail_server

AsPerson = Callable[[User], Client]
pytestmark = pytest.mark.django_db
NOON = datetime.combine(timezone.now().date(), datetime.min.time(), tzinfo=UTC) + timedelta(hours=12)


def tell(person: User, dedupe: str = "one", **more: str) -> int:
    told = {"title": f"Notice {dedupe}", "text": "Due on 1 Dec 2026.", "url": "/keys/", **more}
    return notices.tell([notices.News([person], kind="finding", dedupe=dedupe, **told)])


@pytest.fixture
def mail_server(settings: Any) -> Iterator[MailServer]:
    """This installation sends its mail to a server of the test, over a socket."""
    with run_mail_server() as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.HAS_EMAIL, settings.EMAIL_HOST, settings.EMAIL_PORT = True, "127.0.0.1", server.port
        settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
        settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
        settings.PUBLIC_URL = "https://desk.example"
        yield server


def test_person_is_told_once_of_an_occasion() -> None:
    ana, left = factories.make_user(), factories.make_user(is_active=False)

    assert (tell(ana), tell(ana), tell(ana, "two"), tell(left)) == (1, 0, 1, 0)
    assert list(notices.of(ana).values_list("dedupe", flat=True)) == ["two", "one"]


@pytest.mark.django_db(transaction=True)
def test_person_is_told_once_by_processes_that_meet() -> None:
    ana = factories.make_user()
    gate = threading.Barrier(4)

    def run() -> None:
        gate.wait()
        try:
            tell(ana)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert Notice.objects.count() == 1


def test_bell_counts_what_is_unread_and_says_it_in_words(as_person: AsPerson) -> None:
    ana = factories.make_user()
    tell(ana)
    tell(ana, "two")
    tell(factories.make_user(), "theirs")

    client = as_person(ana)
    page = client.get("/people/").content.decode()

    assert 'aria-label="Notices, 2 unread"' in page
    assert '<span class="bell-count" aria-hidden="true">2</span>' in page
    notices.mark_read(ana)
    assert 'aria-label="Notices, none unread"' in client.get("/people/").content.decode()


def test_page_shows_ones_own_notices_newest_first_and_marks_them(as_person: AsPerson) -> None:
    ana, other = factories.make_user(), factories.make_user()
    tell(ana, "one")
    tell(ana, "two")
    tell(other, "theirs")
    client = as_person(ana)

    page = client.get("/notices/")

    assert [one.dedupe for one in page.context["notices"]] == ["two", "one"]
    assert page.content.decode().count('<span class="finding-word">unread</span>') == 2
    first = notices.of(ana).get(dedupe="one")
    assert client.post("/notices/read/", {"notice": first.id}).status_code == 303
    assert notices.count_unread(ana) == 1
    client.post("/notices/read/", {"notice": notices.of(other).get().id})
    client.post("/notices/read/")
    assert (notices.count_unread(ana), notices.count_unread(other)) == (0, 1)
    assert "Mark all as read" not in client.get("/notices/").content.decode()


def test_page_of_notices_has_a_keyset_and_few_queries(
    as_person: AsPerson, django_assert_max_num_queries: Any
) -> None:
    ana = factories.make_user()
    for number in range(55):
        tell(ana, f"n{number}")
    client = as_person(ana)

    with django_assert_max_num_queries(14):
        first = client.get("/notices/")
    second = client.get(f"/notices/{first.context['older']}")

    assert (len(first.context["notices"]), len(second.context["notices"])) == (50, 5)
    assert second.context["older"] == ""
    assert client.get("/notices/?before=nonsense").status_code == 200


def test_page_says_that_no_mail_is_sent_and_who_could_change_that(as_person: AsPerson, settings: Any) -> None:
    client = as_person(factories.make_user())

    assert (
        "No mail is sent from this installation; whoever runs it can set"
        in client.get("/notices/").content.decode()
    )
    settings.HAS_EMAIL = True
    assert "mailed once a day" in client.get("/notices/").content.decode()


def test_digest_goes_out_once_a_day_over_a_socket(mail_server: MailServer) -> None:
    ana = factories.make_user("ana@desk.example", name="Ana Duarte")
    tell(ana)
    tell(ana, "two", title="sandbox_lists_ops must be rotated in 7 days")

    assert digests.due_people(NOON) == [ana.id]
    assert digests.send(ana.id, NOON)
    tell(ana, "three")
    assert digests.due_people(NOON + timedelta(hours=3)) == []
    assert not digests.send(ana.id, NOON + timedelta(hours=3))

    (mail,) = mail_server.mails
    assert "To: ana@desk.example" in mail
    assert "Subject: Enrichment desk: 2 notices" in mail
    assert "sandbox_lists_ops must be rotated in 7 days" in mail
    assert "https://desk.example/keys/" in mail
    assert Notice.objects.filter(mailed_at__isnull=True).count() == 1
    assert digests.due_people(NOON + timedelta(days=1)) == [ana.id]
    assert digests.send(ana.id, NOON + timedelta(days=1))
    assert len(mail_server.mails) == 2


def test_digest_waits_for_the_hour_in_the_persons_zone(mail_server: MailServer, settings: Any) -> None:
    settings.DIGEST_HOUR = 8
    east = factories.make_user(time_zone="Asia/Tokyo")
    west = factories.make_user(time_zone="America/Los_Angeles")
    tell(east)
    tell(west)

    assert digests.due_people(NOON) == [east.id]  # 21:00 in Tokyo, 4:00 or 5:00 in Los Angeles
    assert digests.due_people(NOON.replace(hour=20)) == [west.id]  # 5:00 of the next day, and 12:00 or 13:00


def test_digest_that_was_refused_is_tried_again_and_then_delivered_once(mail_server: MailServer) -> None:
    ana = factories.make_user()
    tell(ana)
    mail_server.mood = "refuse"

    assert not digests.send(ana.id, NOON)
    assert digests.due_people(NOON + timedelta(minutes=5)) == []
    digest = Digest.objects.get()
    assert (digest.sent_at, digest.problem, digest.tries) == (None, "SMTPDataError", 1)
    assert Notice.objects.get().mailed_at is None
    mail_server.mood = "ok"
    later = NOON + timedelta(minutes=16)
    assert digests.due_people(later) == [ana.id]
    assert digests.send(ana.id, later)
    assert not digests.send(ana.id, later + timedelta(minutes=16))

    assert len(mail_server.mails) == 1


def test_digest_is_tried_again_when_no_server_answers(mail_server: MailServer, settings: Any) -> None:
    ana = factories.make_user()
    tell(ana)
    port, settings.EMAIL_PORT = settings.EMAIL_PORT, 9

    assert not digests.send(ana.id, NOON)
    settings.EMAIL_PORT = port
    assert digests.send(ana.id, NOON + timedelta(minutes=16))


def test_digest_whose_answer_was_lost_is_not_sent_twice(mail_server: MailServer) -> None:
    ana = factories.make_user()
    tell(ana)
    mail_server.mood = "cut"

    digests.send(ana.id, NOON)
    mail_server.mood = "ok"
    later = NOON + timedelta(hours=1)

    assert digests.due_people(later) == []
    assert not digests.send(ana.id, later)
    assert len(mail_server.mails) == 1
    assert "may have arrived" in Digest.objects.get().problem


def test_digest_is_for_those_who_can_log_in_and_leaves_out_old_news(mail_server: MailServer) -> None:
    gone, late = factories.make_user(), factories.make_user()
    tell(gone)
    tell(late)
    User.objects.filter(id=gone.id).update(is_active=False)
    Notice.objects.filter(person=late).update(at=NOON - timedelta(days=8))

    assert digests.due_people(NOON) == []
    assert not digests.send(gone.id, NOON)
    assert mail_server.mails == []


def test_without_a_mail_server_nothing_is_due(settings: Any) -> None:
    ana = factories.make_user()
    tell(ana)
    settings.HAS_EMAIL = False

    assert digests.due_people(NOON) == []
    assert not digests.send(ana.id, NOON)
    assert Notice.objects.get().mailed_at is None


def test_sweep_wakes_a_worker_for_each_digest(
    mail_server: MailServer, wakes: list[tuple[str, int, str]], settings: Any
) -> None:
    settings.DIGEST_HOUR = 0
    ana = factories.make_user()
    tell(ana)

    tasks.sweep_due()
    tasks.send_digest(ana.id)
    tasks.sweep_due()

    assert [wake for wake in wakes if wake[0] == "send_digest"] == [("send_digest", ana.id, "work")]
    assert len(mail_server.mails) == 1


def test_chore_is_claimed_once_in_a_while() -> None:
    now = timezone.now()
    minute = timedelta(minutes=1)

    taken = [
        chores.claim("x", every=minute, now=now + timedelta(seconds=seconds))
        for seconds in (0, 1, 59, 60, 61, 200)
    ]

    assert taken == [True, False, False, True, False, True]


def test_notices_go_after_a_year() -> None:
    ana = factories.make_user()
    tell(ana, "old")
    tell(ana, "new")
    Notice.objects.filter(dedupe="old").update(at=timezone.now() - timedelta(days=366))

    notices.forget(timezone.now())

    assert [one.dedupe for one in Notice.objects.all()] == ["new"]
