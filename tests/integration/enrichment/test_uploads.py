from __future__ import annotations

import io
import threading
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from enrichment.csv_import import UploadError
from enrichment.models import EnrichmentJob, EnrichmentRow, Upload
from enrichment.services import submission, uploads
from keys.clock import db_now
from people.audit import Actor
from tests import factories
from tests.fakes import big_list

TEXT = "Name;E-Mail\nJürgen Groß;juergen@x.example\nZoë Ålund;zoe@y.example\n"


def upload(content: bytes, **how: Any) -> EnrichmentJob:
    return uploads.create_draft(
        Actor(factories.make_user()),
        operation="email-verification",
        stream=io.BytesIO(content),
        file_name="list.csv",
        **how,
    )


def checked(content: bytes, **how: Any) -> EnrichmentJob:
    job = upload(content, **how)
    uploads.check_rows(job.id)
    job.refresh_from_db()
    return job


def names_in(job: EnrichmentJob) -> list[str]:
    return [row.cells[0] for row in EnrichmentRow.objects.filter(job=job).order_by("position")]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "encoding", "label"),
    [
        (TEXT.encode(), "utf-8", "UTF-8"),
        (TEXT.encode("utf-8-sig"), "utf-8", "UTF-8 with BOM"),
        (TEXT.encode("utf-16"), "utf-16-le", "UTF-16"),
        (TEXT.encode("utf-16-le"), "utf-16-le", "UTF-16"),
        (TEXT.encode("utf-16-be"), "utf-16-be", "UTF-16"),
        (TEXT.encode("cp1252"), "cp1252", "Windows-1252"),
        (TEXT.encode("latin-1"), "cp1252", "Windows-1252"),
    ],
    ids=["utf-8", "bom", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"],
)
def test_file_is_read_in_its_encoding_and_the_page_can_say_which(
    content: bytes, encoding: str, label: str
) -> None:
    job = checked(content)

    assert names_in(job) == ["Jürgen Groß", "Zoë Ålund"]
    assert job.upload is not None
    assert job.upload.layout["encoding"] == encoding
    assert label in job.upload.layout["encoding_label"]
    assert job.rows_waiting == 2


@pytest.mark.django_db
def test_wrong_encoding_is_corrected_by_reading_the_file_again() -> None:
    job = checked("Name;E-Mail\nŁukasz Żak;l@x.example\n".encode("cp1250"))
    assert names_in(job) != ["Łukasz Żak"]

    submission.reread(job, encoding="cp1250", delimiter=None, has_header=None)

    assert names_in(job) == ["Łukasz Żak"]
    job.refresh_from_db()
    assert (job.rows_total, job.is_checked) == (1, True)


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("list.csv", TEXT)
    return packed.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "The file is empty"),
        (b"\n  \n\r\n", "nothing but blank lines"),
        (b"email\n", "a header and no row below it"),
        (b"email,name\na@x.example,An\x00n\n", "Row 2, column 2 holds a NUL byte"),
        (zipped(), "This is a ZIP archive, whatever its name ends in"),
        (b"%PDF-1.7 and more", "This is a PDF document"),
        (",".join(f"c{n}" for n in range(300)).encode() + b"\n" + b"," * 299 + b"\n", "300"),
        (b"email\n" + b"x" * 5_000 + b"\n", r"4,096"),
        (b'email,note\na@x.example,"never closed\n' * 3, "quot"),
    ],
    ids=["empty", "blank", "header only", "NUL", "ZIP", "PDF", "300 columns", "long cell", "open quote"],
)
def test_file_that_is_no_list_is_refused_with_a_sentence_and_leaves_nothing(
    content: bytes, sentence: str
) -> None:
    with pytest.raises(UploadError, match=sentence) as told:
        upload(content)

    assert told.value.message.endswith(".")
    assert not Upload.objects.exists()
    assert not EnrichmentJob.objects.exists()


@pytest.mark.django_db
def test_file_above_the_limit_is_refused(settings: Any) -> None:
    settings.MAX_UPLOAD_BYTES = 1024 * 1024

    with pytest.raises(UploadError, match="larger than 1 MB"):
        upload(b"email\n" + b"a@x.example\n" * 100_000)


@pytest.mark.django_db
def test_list_of_the_main_job_is_read_right() -> None:
    job = checked(big_list.content())

    assert job.upload is not None
    assert job.rows_total == big_list.ROWS
    assert job.rows_skipped == big_list.BAD_ROWS
    assert job.upload.blank_lines == big_list.BLANK_LINES
    assert job.mapping == {"email": 1}
    assert sum(finding["rows"] for finding in job.findings["skipped"].values()) == big_list.BAD_ROWS
    rows = EnrichmentRow.objects.filter(job=job).order_by("position")
    assert [row.cells for row in rows] == [big_list.padded(cells) for cells in big_list.rows()]
    assert rows.filter(state="waiting").values("digest").distinct().count() == big_list.distinct_questions()


@pytest.mark.django_db
def test_skipped_row_says_why_and_the_findings_show_examples() -> None:
    job = checked(b"email\nann@@x\n\nnobody\n;\nbob@x.example\n")

    skipped = EnrichmentRow.objects.filter(job=job, state="skipped")
    assert all(row.reason.endswith(".") and row.reason_code for row in skipped)
    examples = [example for found in job.findings["skipped"].values() for example in found["examples"]]
    assert [1, "ann@@x"] in examples


@pytest.mark.django_db
def test_columns_chosen_by_a_person_are_checked_anew() -> None:
    job = checked(b"first,second\na@x.example,no\nb@x.example,c@x.example\n")

    submission.change_columns(job, {"email": 1}, [])

    job.refresh_from_db()
    assert (job.rows_total, job.rows_waiting, job.rows_skipped) == (2, 1, 1)


@pytest.mark.django_db
def test_warned_rows_are_asked_unless_their_warning_is_skipped() -> None:
    lines = b"first name,last name,company domain\nAnn,Berg,gmail.com\nBob,Falk,acme.example\n"
    job = factories.make_job_from_file(lines, operation="email-search")
    (code,) = job.findings["warnings"]
    assert job.rows_waiting == 2

    submission.change_columns(job, job.mapping, [code])

    job.refresh_from_db()
    assert (job.rows_waiting, job.rows_skipped) == (1, 1)


@pytest.mark.django_db
def test_name_of_the_stored_file_is_ours_and_what_is_kept_is_every_byte(settings: Any) -> None:
    content = big_list.content()

    job = uploads.create_draft(
        Actor(factories.make_user()),
        operation="email-verification",
        stream=io.BytesIO(content),
        file_name="../../etc/passwd",
    )

    assert job.upload is not None
    assert "passwd" not in job.upload.file.name
    with job.upload.file.open("rb") as file:
        assert file.read() == content
    assert job.upload.file.path.startswith(str(settings.MEDIA_ROOT))


@pytest.mark.django_db(transaction=True)
def test_large_list_is_checked_by_a_worker(settings: Any, wakes: list[tuple[str, int, str]]) -> None:
    settings.IMPORT_INLINE_BYTES = 10
    job = upload(TEXT.encode())

    submission.check(job)

    job.refresh_from_db()
    assert job.is_checked is False
    assert wakes == [("run_check", job.id, "work")]
    assert uploads.due_checks() == [job.id]


@pytest.mark.django_db
def test_check_of_a_dead_worker_is_due_again_and_starts_over() -> None:
    job = checked(TEXT.encode())
    EnrichmentJob.objects.filter(id=job.id).update(
        is_checked=False, dispatched_at=db_now() - timedelta(seconds=61)
    )
    assert uploads.due_checks() == [job.id]

    uploads.check_rows(job.id)

    job.refresh_from_db()
    assert (job.is_checked, job.rows_total) == (True, 2)
    assert uploads.due_checks() == []


@pytest.mark.django_db(transaction=True)
def test_same_check_in_two_workers_at_once_writes_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 50)
    job = upload(big_list.content())
    barrier = threading.Barrier(2)
    errors: list[Exception] = []

    def work() -> None:
        try:
            barrier.wait(10)
            uploads.check_rows(job.id)
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    job.refresh_from_db()
    assert errors == []
    assert job.is_checked
    assert EnrichmentRow.objects.filter(job=job).count() == job.rows_total == big_list.ROWS


@pytest.mark.django_db(transaction=True)
def test_older_check_ends_when_the_columns_were_changed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "CHUNK", 1)
    job = upload(b"first,second\na@x.example,no\nb@x.example,no\n")
    _rows: Callable[..., Any] = uploads._checked_rows

    def changed_after_one(*args: Any) -> Any:
        rows = _rows(*args)
        yield next(rows)
        monkeypatch.setattr(uploads, "_checked_rows", _rows)
        submission.change_columns(job, {"email": 1}, [])
        yield from rows

    monkeypatch.setattr(uploads, "_checked_rows", changed_after_one)

    uploads.check_rows(job.id)

    job.refresh_from_db()
    assert (job.rows_total, job.rows_skipped, job.mapping) == (2, 2, {"email": 1})
    assert EnrichmentRow.objects.filter(job=job).count() == 2
