"""A lane of the crash test: one job, and what is done to the installation until it has ended."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.core.management import call_command
from django.db.models import Sum

from enrichment.chaos.scene import Scene, SceneError
from enrichment.choices import BatchState, JobState
from enrichment.models import Batch, EnrichmentJob
from enrichment.services import submission, uploads
from keys.clock import db_now
from keys.models import KeyRecord
from people.audit import Actor
from people.models import User

LOOK_S: Final = 0.1
BREAKS_APART_S: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """How the installation is disturbed.

    `kills`, `pauses`, `faults` and `troubles` are spread over the work, so that all of them happen however long the job takes; two
    kills are at least `apart_s` apart. `faults` are answers to paid calls that are spoiled. `troubles` are names of `TROUBLES`,
    each of which happens to one call; a job that pauses for one is resumed, as by the person who mended it. `ambushes` end every
    worker at once while one of them holds a batch that it has not sent.
    """

    kills: int
    apart_s: float
    pauses: int
    faults: int
    ambushes: int
    troubles: Sequence[str]
    breaks: Sequence[str]
    empties_broker: bool
    timeout_s: float


@dataclass
class Disturbance:
    """What was done to the installation, and how it took it. Times in seconds.

    `stalls_s` has, for each time the broker was emptied, how long nothing moved afterwards; `reclaims_s`, for each ambush,
    how long it took until another worker had taken every batch over.
    """

    kills: dict[str, int] = field(default_factory=dict)
    pauses: int = 0
    emptied: int = 0
    breaks: dict[str, int] = field(default_factory=dict)
    deaf_workers: int = 0
    troubles: list[str] = field(default_factory=list)
    resumed: int = 0
    armed: int = 0
    spoiled: int = 0
    refused: int = 0
    longest_stall_s: float = 0.0
    stalls_s: list[float] = field(default_factory=list)
    reclaims_s: list[float] = field(default_factory=list)
    seconds: float = 0.0


def make_draft(rows: int) -> EnrichmentJob:
    """A checked list of `rows` distinct people in a new installation, by the same commands and services as anybody's."""
    quiet = io.StringIO()
    call_command("migrate", verbosity=0)
    person = {"email": "chaos@desk.example", "name": "Chaos Test", "role": "operator"}
    key = {"environment": "sandbox", "system": "chaos", "label": "test", "owner": person["email"]}
    key |= {"purpose": "crash test", "scopes": "all", "secret": "env:ICYPEAS_API_KEY"}
    for command, values in (("person", person), ("key", key)):
        options = [word for name, value in values.items() for word in (f"--{name}", value)]
        call_command(command, "create", *options, stdout=quiet)
    return _draft(rows, "Ann")


def _draft(rows: int, first_name: str) -> EnrichmentJob:
    lines = "".join(f"{first_name}{n},Lee{n},firm{n}.example\r\n" for n in range(rows))
    job = submission.draft_from_upload(
        Actor(User.objects.get()),
        operation="email-search",
        stream=io.BytesIO(f"First name,Last name,Website\r\n{lines}".encode()),
        file_name=f"{first_name}.csv",
    )
    while not job.is_checked:  # a long list is checked in slices, by a worker or by us
        uploads.check_rows(job.id)
        job.refresh_from_db()
    return job


def start(job: EnrichmentJob) -> EnrichmentJob:
    """Start a draft as its person."""
    order = submission.StartOrder(
        key=KeyRecord.objects.get(), purpose="crash test", freshness_days=90, token=job.start_token
    )
    return submission.start_job(Actor(User.objects.get()), job.id, order)


def start_small(rows: int) -> EnrichmentJob:
    """Another list, of other people."""
    return start(_draft(rows, "Bea"))


def look_up(first_name: str = "Cleo") -> EnrichmentJob:
    """One person's look-up."""
    return submission.look_up(
        Actor(User.objects.get()),
        operation="email-search",
        told={"first_name": first_name, "last_name": "Day", "domain": "sbx-found.example"},
        key=KeyRecord.objects.get(),
        purpose="bench",
        freshness_days=0,
        token=submission.new_token(),
    )


def disturb(scene: Scene, job: EnrichmentJob, plan: Plan, show: Callable[[int], object]) -> Disturbance:
    """Kill, freeze and empty until the job has ended or the time is over; `show` is told the final rows."""
    done = Disturbance()
    started = changed = time.monotonic()
    next_kill = next_pause = next_break = started
    thresholds = [0.25, 0.5, 0.75] if plan.empties_broker else []
    seen: tuple[int, int] = (0, 0)
    emptied_at = 0.0
    ambush: Ambush | None = None
    while time.monotonic() - started < plan.timeout_s:
        time.sleep(LOOK_S)
        job.refresh_from_db()
        now, final = time.monotonic(), job.rows_total - job.rows_open
        show(final)
        if job.is_finished:
            break
        moved = (final, Batch.objects.filter(job=job).exclude(intent_at=None).count())
        if moved != seen:
            if emptied_at:
                done.stalls_s.append(round(now - emptied_at, 1))
                emptied_at = 0.0
            seen, changed = moved, now
        done.longest_stall_s = max(done.longest_stall_s, now - changed)
        if scene.is_orphaned:
            raise SceneError("The process that started the crash test has gone.")
        scene.revive()
        while thresholds and final >= thresholds[0] * job.rows_total:
            thresholds.pop(0)
            scene.empty_broker()
            done.emptied += 1
            emptied_at = now
        share = (final + sent_rows(job)) / (2 * job.rows_total)
        killed = sum(done.kills.values())
        if killed < plan.kills * share and now >= next_kill:
            victim = scene.kill()
            if victim:
                done.kills[victim] = done.kills.get(victim, 0) + 1
                next_kill = now + plan.apart_s * scene.dice.uniform(1, 2)
        is_pause_due = done.pauses < plan.pauses * share and now >= next_pause
        if is_pause_due and scene.freeze(settings.LEASE_S * 1.5):
            done.pauses += 1
            next_pause = now + plan.apart_s
        if done.armed < plan.faults * share:
            scene.arm_fault()
            done.armed += 1
        if len(done.troubles) < len(plan.troubles) * share:
            scene.trouble(plan.troubles[len(done.troubles)])
            done.troubles.append(plan.troubles[len(done.troubles)])
        if job.state == JobState.PAUSED:
            submission.resume_job(Actor(User.objects.get()), job.id)
            done.resumed += 1
        broken = sum(done.breaks.values())
        if broken < len(plan.breaks) and share * (len(plan.breaks) + 1) > broken + 1 and now >= next_break:
            how = plan.breaks[broken]
            scene.break_line(how)
            done.breaks[how] = done.breaks.get(how, 0) + 1
            next_break = now + BREAKS_APART_S
        if ambush and ambush.is_over():
            done.reclaims_s.append(round(now - ambush.at, 1))
            ambush = None
        if ambush is None and len(done.reclaims_s) < plan.ambushes:
            ambush = lay_ambush(scene, job)
    done.seconds, done.deaf_workers = time.monotonic() - started, scene.deaf_workers
    return done


def sent_rows(job: EnrichmentJob) -> int:
    """Rows whose batch was about to be sent or more, one row for each question."""
    sent = Batch.objects.filter(job=job).exclude(intent_at=None)
    return min(sent.aggregate(rows=Sum("size"))["rows"] or 0, job.rows_total)


@dataclass(frozen=True)
class Ambush:
    """Batches whose holder was killed before it sent them, with the fence of that time."""

    at: float
    fences: Mapping[int, int]

    def is_over(self) -> bool:
        """Whether each batch has been claimed by somebody else."""
        now = dict(Batch.objects.filter(id__in=self.fences).values_list("id", "fence"))
        return all(now.get(batch, fence + 1) > fence for batch, fence in self.fences.items())


def lay_ambush(scene: Scene, job: EnrichmentJob) -> Ambush | None:
    """End all workers if one holds a batch that it has not sent; None when no batch was caught.

    A batch is caught once only: after three times it would rightly be left out.
    """
    held = Batch.objects.filter(job=job, state=BatchState.READY, lease_until__gt=db_now())
    if not held.exists() or held.filter(claims__gt=1).exists():
        return None
    scene.kill_workers()
    fences = dict(held.values_list("id", "fence"))  # of those that were not sent in the last moment
    return Ambush(time.monotonic(), fences) if fences else None
