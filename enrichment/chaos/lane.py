"""A lane of the crash test: one job, and what is done to the installation until it has ended."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django.conf import settings
from django.core.management import call_command

from enrichment.chaos.scene import Scene
from enrichment.models import Batch, EnrichmentJob
from enrichment.services import submission, uploads
from keys.models import KeyRecord
from people.audit import Actor
from people.models import User

LOOK_S: Final = 0.1


@dataclass(frozen=True)
class Plan:
    """How the installation is disturbed. `every_s` is the mean time between two kills."""

    kills: int
    every_s: float
    pauses: int
    empties_broker: bool
    timeout_s: float


@dataclass
class Disturbance:
    """What was done to the installation, and how it took it. Times in seconds."""

    kills: dict[str, int] = field(default_factory=dict)
    pauses: int = 0
    emptied: int = 0
    spoiled: int = 0
    refused: int = 0
    longest_stall_s: float = 0.0
    seconds: float = 0.0


def start_job(rows: int) -> EnrichmentJob:
    """A started list of `rows` distinct people, by the same commands and services as anybody's."""
    quiet = io.StringIO()
    call_command("migrate", verbosity=0)
    person = {"email": "chaos@desk.example", "name": "Chaos Test", "role": "operator"}
    key = {"environment": "sandbox", "system": "chaos", "label": "test", "owner": person["email"]}
    key |= {"purpose": "crash test", "scopes": "all", "secret": "env:ICYPEAS_API_KEY"}
    for command, values in (("person", person), ("key", key)):
        options = [word for name, value in values.items() for word in (f"--{name}", value)]
        call_command(command, "create", *options, stdout=quiet)
    actor = Actor(User.objects.get())
    lines = "".join(f"Ann{n},Lee{n},firm{n}.example\r\n" for n in range(rows))
    job = submission.draft_from_upload(
        actor,
        operation="email-search",
        stream=io.BytesIO(f"First name,Last name,Website\r\n{lines}".encode()),
        file_name="chaos.csv",
    )
    while not job.is_checked:  # a long list is checked in slices, by a worker or by us
        uploads.check_rows(job.id)
        job.refresh_from_db()
    order = submission.StartOrder(
        key=KeyRecord.objects.get(), purpose="crash test", freshness_days=90, token=job.start_token
    )
    return submission.start_job(actor, job.id, order)


def disturb(scene: Scene, job: EnrichmentJob, plan: Plan, show: Callable[[int], object]) -> Disturbance:
    """Kill, freeze and empty until the job has ended or the time is over; `show` is told the final rows."""
    done = Disturbance()
    started = changed = time.monotonic()
    next_kill = started + scene.dice.expovariate(1 / plan.every_s)
    next_pause = started + plan.every_s
    thresholds = [0.25, 0.5, 0.75] if plan.empties_broker else []
    seen: tuple[int, int] = (0, 0)
    while time.monotonic() - started < plan.timeout_s:
        time.sleep(LOOK_S)
        job.refresh_from_db()
        now, final = time.monotonic(), job.rows_total - job.rows_open
        show(final)
        if job.is_finished:
            break
        moved = (final, Batch.objects.filter(job=job).exclude(intent_at=None).count())
        if moved != seen:
            seen, changed = moved, now
        done.longest_stall_s = max(done.longest_stall_s, now - changed)
        scene.revive()
        while thresholds and final >= thresholds[0] * job.rows_total:
            thresholds.pop(0)
            scene.empty_broker()
            done.emptied += 1
        if sum(done.kills.values()) < plan.kills and now >= next_kill:
            victim = scene.kill()
            if victim:
                done.kills[victim] = done.kills.get(victim, 0) + 1
                next_kill = now + scene.dice.expovariate(1 / plan.every_s)
        is_pause_due = done.pauses < plan.pauses and now >= next_pause
        if is_pause_due and scene.freeze(settings.LEASE_S * 1.5):
            done.pauses += 1
            next_pause = now + settings.LEASE_S * 2
    done.seconds = time.monotonic() - started
    return done
