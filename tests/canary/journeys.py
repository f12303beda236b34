"""What is done to the installation: everything that people do, and everything that goes wrong while secrets are about."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.management import call_command
from django.utils import timezone

from enrichment.choices import ACTIVE, JobState
from enrichment.models import EnrichmentJob, HookCall
from enrichment.providers.icypeas.auth import sign_webhook
from keys import presence, services
from keys.models import Account, Call, KeyRecord, KeyTest, Presence, Worker
from keys.scopes import SCOPES
from people.audit import Actor
from people.models import Team, User
from tests import factories
from tests.canary.scene import KEYS, Scene, free_port, wait_until
from tests.canary.visitor import Visitor
from tests.canary.web import EXPLODE

PEOPLE = {
    "operator": "Ana Duarte",
    "key_admin": "Mira Okafor",
    "manager": "Leo Brandt",
    "viewer": "Tom Aldous",
    "auditor": "Ida Berg",
}
VAULT_REFERENCE = KEYS["vault"][0]
API_SECRET = "API secret (signs requests and webhooks)"


@dataclass
class Journeys:
    """`keep` is told every answer that a person got, `say` what is being done."""

    scene: Scene
    keep: Callable[[str, str, bytes], None]
    say: Callable[[str], None]
    people: dict[str, User] = field(default_factory=dict)
    keys: dict[str, KeyRecord] = field(default_factory=dict)
    visitors: dict[str, Visitor] = field(default_factory=dict)

    # --- before anything runs ----------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """People of every role, and a key with an account of its own for every source."""
        call_command("migrate", verbosity=0)
        password, control = self.scene.value("password, typed"), self.scene.value("control")
        team = Team.objects.create(name=f"Team {control}")  # the control is planted where people write
        for role, name in PEOPLE.items():
            person = factories.make_user(f"{role}@desk.example", name=name, role=role, team=team)
            person.set_password(password)
            person.save()
            self.people[role] = person
        for system, (reference, _) in KEYS.items():
            spec = services.KeySpec(
                "sandbox",
                system,
                "canary",
                self.people["key_admin"],
                f"Searches for {control}",
                sorted(SCOPES),
                reference,
                team=team,
                account=f"Account {system}",
            )
            self.keys[system] = services.create_key(Actor(self.people["key_admin"]), spec)
        services.change_account(
            Actor(self.people["key_admin"]),
            self.keys["environment"].account,
            {"api_secret_ref": "env:ICYPEAS_API_SECRET", "signs_requests": True, "has_webhooks": True},
            reason=f"webhooks for {control}",
        )
        Account.objects.update(balance=500, balance_asked_at=timezone.now())

    # --- while it runs -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        wait_until(Worker.objects.filter(environments__isnull=False).exists, "a worker")
        wait_until(lambda: presence.standing("env:ICYPEAS_KEY_ABORT").seen, "the first roll call")
        for step in (
            self.enter,
            self.test_every_key,
            self.paste_secrets_into_forms,
            self.work,
            self.be_called_back,
            self.be_refused,
            self.break_a_library_and_two_processes,
            self.replace_and_seal,
            self.break_views_with_debug_on,
            self.read_everything,
        ):
            started = time.monotonic()
            step()
            self.say(f"{step.__name__.replace('_', ' ')} ({time.monotonic() - started:.0f} s)")

    def enter(self) -> None:
        for role, person in self.people.items():
            visitor = Visitor(self.scene.web_url, role, self.keep)
            if role == "viewer":
                wrong = {"username": person.email, "password": self.scene.value("password, mistyped")}
                assert visitor.submit("/login/", wrong).status_code == 422
            visitor.log_in(person.email, self.scene.value("password, typed"))
            self.visitors[role] = visitor

    def test_every_key(self) -> None:
        """Each secret flies once; the ones that break things come later."""
        for system in KEYS:
            if system not in ("leaky", "segfault", "abort"):
                self.ask_for_test(system)
        wait_until(lambda: not KeyTest.objects.filter(done_at=None).exists(), "the tests of keys")
        for system, key in self.keys.items():
            self.visitors["key_admin"].get(f"/keys/{key.name}/test/")
            test = key.tests.first()
            if test is not None:
                bad = [check for check in test.checks if check["state"] == "bad"]
                assert bool(bad) == (system == "refused"), (system, test.checks)
                path = f"/keys/{key.name}/test/{test.id}/"
                self.visitors["key_admin"].get(path, **{"HX-Request": "true"})

    def ask_for_test(self, system: str) -> None:
        name = self.keys[system].name
        assert self.visitors["key_admin"].submit(f"/keys/{name}/test/", {}).status_code == 303

    def filled(self, **changes: Any) -> dict[str, Any]:
        admin = self.people["key_admin"]
        return {
            "environment": "sandbox",
            "system": "pasted",
            "label": "canary",
            "owner": admin.id,
            "deputy": "",
            "team": admin.team_id,
            "purpose": "A form",
            "scopes": ["email-verification:bulk"],
            "secret_ref": "env:ICYPEAS_KEY_NOBODY",
            "rotation_days": "90",
            **changes,
        }

    def paste_secrets_into_forms(self) -> None:
        """By mistake, into the field for the reference; and into a form that then breaks."""
        admin, pasted = self.visitors["key_admin"], self.scene.value("pasted into the reference")
        for reference in (
            pasted,
            f"env:{pasted}",
            f"file:{pasted}+/",
            f"vault:{pasted}",
            f"aws-sm:{pasted}#key",
        ):
            answer = admin.submit("/keys/new/", self.filled(secret_ref=reference))
            assert answer.status_code == 422, (answer.status_code, reference.partition(":")[0])
        name = self.keys["environment"].name
        edit = admin.submit(f"/keys/{name}/edit/", {"secret_ref": pasted, "reason": "a mistake"})
        assert edit.status_code == 422
        assert self.explode(admin) == 500

    def explode(self, admin: Visitor) -> int:
        pasted = self.scene.value("pasted into another field of a form that breaks")
        return admin.submit("/keys/new/", self.filled(system=EXPLODE, purpose=pasted)).status_code

    def break_views_with_debug_on(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        self.scene.start_web("web with DEBUG", url, DEBUG="true")
        admin = Visitor(url, "key_admin, DEBUG", self.keep)
        admin.log_in(self.people["key_admin"].email, self.scene.value("password, typed"))
        assert self.explode(admin) == 500
        admin.get("/no-such-page/")
        admin.get("/keys/")

    # --- work --------------------------------------------------------------------------------------------------------------

    def list_with(self, system: str, rows: int = 6, header: str = "Email") -> EnrichmentJob:
        """Upload a list and start it with the key."""
        operator = self.visitors["operator"]
        stem = f"ann{EnrichmentJob.objects.count()}"  # new people each time: known answers would need no call
        lines = "".join(f"{stem}.{system}@company{number}.example\r\n" for number in range(rows))
        content = f"{header}\r\n{lines}".encode()
        answer = operator.submit(
            "/jobs/new/email-verification/", {}, files={"file": (f"{system}.csv", content, "text/csv")}
        )
        assert answer.status_code == 303, answer.status_code
        job = EnrichmentJob.objects.latest("id")
        operator.get(answer.headers["Location"])
        told = {
            "key": self.keys[system].id,
            "freshness_days": "90",
            "purpose": "canary",
            "token": job.start_token,
        }
        started = operator.post(f"/jobs/{job.id}/start/", told)
        assert started.status_code == 303, (system, started.status_code)
        return job

    def until_over(self, *jobs: EnrichmentJob) -> None:
        """Until none of the jobs goes on by itself."""
        going = [state for state in ACTIVE if state != JobState.PAUSED]
        mine = EnrichmentJob.objects.filter(id__in=[job.id for job in jobs], state__in=going)
        wait_until(lambda: not mine.exists(), f"jobs {[job.id for job in jobs]}", 90)
        for job in jobs:
            job.refresh_from_db()

    def work(self) -> None:
        """A list for each source, a look-up, a count of leads."""
        control = self.scene.value("control")
        header = f"Email,{control}"
        systems = ("environment", "bearer", "mounted", "file", "vault", "aws")
        jobs = [self.list_with(system, header=header) for system in systems]
        operator = self.visitors["operator"]
        answer = operator.submit(
            "/lookup/email-verification/",
            {"email": "bo@company.example", "key": self.keys["vault"].id, "purpose": "", "use_known": "on"},
        )
        assert answer.status_code in (200, 303), answer.status_code
        self.until_over(*jobs)
        assert {job.state for job in jobs} == {JobState.COMPLETED}, [
            (job.name, job.state_text) for job in jobs
        ]
        for job in jobs[:2]:
            for preset in ("", "?preset=excel", "?preset=raw"):
                operator.get(f"/jobs/{job.id}/export/{preset}")
        for name in ("find-people", "find-companies"):
            operator.submit(f"/leads/{name}/", {"key": self.keys["aws"].id, "location": "FR"})

    def be_called_back(self) -> None:
        """Webhooks: the sandbox has sent some by now; one honest and two forged ones beside."""
        account = Account.objects.get(id=self.keys["environment"].account_id)
        path = f"/hooks/icypeas/{account.hook_token}/"
        stamp = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        for secret in (self.scene.value(API_SECRET), "forged", ""):
            signature = sign_webhook(secret, path=path, stamp=stamp)
            body = {"signature": signature, "timestamp": stamp, "data": {"file": f"f-{len(secret)}"}}
            answer = self.visitors["operator"].http.post(path, content=json.dumps(body))
            assert answer.status_code == 200, answer.status_code
        assert HookCall.objects.count() >= 3

    # --- what goes wrong ---------------------------------------------------------------------------------------------------

    def be_refused(self) -> None:
        """A key that nobody knows; an Icypeas that says the secret back in its refusal; one that is switched off."""
        refused = self.list_with("refused")
        self.until_over(refused)
        said = f"Your key {self.scene.bare('environment')} may not do this."
        fault = {"route": "/bulk-search", "kind": "status", "status": 403, "accept": False, "word": said}
        self.scene.control("/control/faults", fault)
        echoed = self.list_with("environment", rows=3)
        self.until_over(echoed)
        call = Call.objects.filter(job=echoed.id).exclude(outcome="ok").latest("id")
        assert "***" in call.message, call.message
        self.scene.control("/control/profile", {"profile": "api-off"})
        off = self.list_with("aws", rows=4)
        self.until_over(off)
        self.scene.control("/control/profile", {"profile": "normal"})
        self.scene.control("/control/settings", {"speed": 50.0})
        for job in (refused, echoed, off):
            assert job.state == JobState.PAUSED, (job.name, job.state)
            self.visitors["operator"].http.follow_redirects = True
            self.visitors["operator"].get(f"/jobs/{job.id}/why/")
            self.visitors["operator"].http.follow_redirects = False

    def break_a_library_and_two_processes(self) -> None:
        """Something raises the secret; a process dies of a wrong address, and one of its own will, with the secret in memory."""
        for system in ("leaky", "segfault", "abort"):
            self.ask_for_test(system)
        log = self.scene.folder / "worker.log"
        for words in ("bad header value", "Segmentation fault", "Fatal Python error: Aborted"):
            wait_until(lambda words=words: words in log.read_text(errors="replace"), words)  # type: ignore[misc]

    def replace_and_seal(self) -> None:
        """Another secret in the file, a vault that closes: the next batch meets both."""
        self.scene.place_file(
            self.scene.data_dir / "worker" / "secrets" / "crm" / "key", self.scene.value("replaced file")
        )
        replaced = self.list_with("file", rows=5)
        # Right after a roll call: once one has met the closed vault, nothing can be started with its key.
        since = timezone.now()
        looked = Presence.objects.filter(reference=VAULT_REFERENCE, seen_at__gt=since)
        wait_until(looked.exists, "a roll call before the vault closes", 45)
        self.scene.seal_vault()
        time.sleep(11)  # what a worker keeps of a store for seconds
        sealed = self.list_with("vault", rows=5)
        self.until_over(replaced, sealed)
        assert "401" in replaced.state_text, replaced.state_text
        assert "sealed" in sealed.state_text, sealed.state_text
        # A presence of every kind, as the next roll call finds it.
        wait_until(lambda: presence.standing(VAULT_REFERENCE).missing, "the next roll call", 45)
        assert presence.standing("env:ICYPEAS_KEY_BEARER").warnings

    def read_everything(self) -> None:
        """Every page of every role, what may be downloaded, and what the terminal says."""
        for visitor in self.visitors.values():
            opened = visitor.crawl()
            assert opened > 20, (visitor.role, opened)
            broken = visitor.statuses[500] - (visitor.role == "key_admin")  # one was broken on purpose
            assert broken == 0, (visitor.role, visitor.statuses)
        manager = self.visitors["manager"]
        today = timezone.localdate()
        for path in (
            "/activity/activity.csv",
            f"/activity/?since={today - timedelta(days=1)}",
            "/keys/keys.csv",
        ):
            manager.get(path)
        manager.get(f"/healthz?{self.scene.value('control')}")
        for command in (
            ["key", "list"],
            ["key", "show", self.keys["environment"].name],
            ["account", "list"],
            ["account", "set", "Account environment"],
            ["audit", "verify"],
            ["audit", "export"],
            ["person", "list"],
            ["check"],
        ):
            done = self.scene.run("manage.py", *command)
            place = "audit log, exported" if command[:2] == ["audit", "export"] else "commands"
            self.keep(place, " ".join(command), done.stdout + done.stderr)
