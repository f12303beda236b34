"""The causes of failed calls: what most likely happened, what to do, who can, and what will not help.

The first question is always whether the secret got to the workers as it should: most refused keys are a value that was
placed wrongly, and rotating a good key only adds a second trouble.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from django.conf import settings

from keys import ledger, presence
from keys.choices import Outcome, Realm
from keys.models import Call, KeyRecord
from keys.scopes import SCOPES
from keys.secrets import is_odd
from people.models import AuditEntry
from people.rights import Right
from people.selectors import who_can

CONFIGURATION = "Our configuration"
POLICY = "Our own rules"
VENDOR = "Icypeas"
NETWORK = "The network"
# Words with which a provider says that keys are no way in any more, or that a rule of the organisation forbids them. Both
# parts must be there: an answer that only speaks of an organisation or a policy is about something else, and one about a
# key that is removed or blocked is about that one. So keys stand in the plural, or as a way in.
_KEYS = (
    r"\b(api[ _-]?)?keys\b|\bkey[ -](authenticat\w+|auth|access|method)\b|api access|this method"
    r"|authenticat\w+ (by|with|via|through|using) (an? )?(api[ _-]?)?key\b"
)
_END = r"retir\w+|deprecat\w+|no longer|sunset|discontinu\w+|end of life|ended on|removed|replaced by"
_NO = r"forbid\w*|not allow\w*|disallow\w*|prohibit\w*|block\w*|restrict\w*|disabl\w+|deni\w+"
_RULE = r"polic(y|ies)|organi[sz]ation\w*|administrator\w*|admin\b|compliance"
_OURS = re.compile(r"^[a-z-]+: (HTTP \d+: )?")  # what the client puts before their words
_RETIRED = re.compile(rf"({_KEYS}).{{0,80}}({_END})|({_END}).{{0,80}}({_KEYS})", re.IGNORECASE | re.DOTALL)
_FORBIDDEN = re.compile(rf"(?=.*({_NO}))(?=.*({_RULE}))(?=.*({_KEYS}))", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Cause:
    """What most likely happened, and what follows from it. `will_not_help` is "" where nothing tempts."""

    title: str
    source: str
    text: str
    steps: Sequence[str]
    who: str
    will_not_help: str = ""
    is_retryable: bool = True


@dataclass(frozen=True)
class Facts:
    """What is known around a failed call. `standing` is of the secret that it went out with, or lacked; `others_good` is the
    last good call of another key of the account since."""

    call: Call
    key: KeyRecord
    standing: presence.Standing
    last_good: Call | None
    others_good: Call | None
    first_bad: Call
    count: int
    changes: Sequence[AuditEntry]
    placed: (
        presence.Sight | None
    )  # the newest change of the secret between the last good call and the first bad one
    admins: str
    good_since: Call | None = None  # the key was let in again after this call
    was_good: Call | None = None  # the same secret was let in before another one was
    strangers: Sequence[KeyRecord] = ()  # records of other accounts that hold the secret of this call
    is_api_secret: bool = False
    lacks_api_secret: bool = False  # refused for want of the secret that signs, so `standing` is of that one
    lost: AuditEntry | None = None  # the change that took this call's scope away
    moved: AuditEntry | None = None  # the change of the reference around that one

    @property
    def is_another_secret(self) -> bool:
        """Whether the call went out with another secret than the last good one: the calls themselves say so."""
        good = self.last_good
        return bool(good and good.fingerprint and self.call.fingerprint) and (
            good is not None and good.fingerprint != self.call.fingerprint
        )

    @property
    def is_same_secret(self) -> bool:
        """Whether the very secret of this call was let in before."""
        good = self.last_good
        return good is not None and bool(self.call.fingerprint) and good.fingerprint == self.call.fingerprint

    @property
    def standing_then(self) -> presence.Standing:
        """What workers find, without what became so after the key was let in again: that cannot have refused the call."""
        since = self.good_since
        if since is None:
            return self.standing
        return replace(
            self.standing, sights=[sight for sight in self.standing.sights if sight.changed_at <= since.at]
        )

    @property
    def after(self) -> str:
        """The release with which the secret changed, as the end of a text."""
        return (
            f" It began right after release {self.placed.release}."
            if self.placed and self.placed.release
            else ""
        )


def _injection(facts: Facts) -> Cause | None:
    """What is wrong with how the secret got to the workers, or None. Always looked at first."""
    standing, reference, after = facts.standing_then, facts.key.secret_ref, facts.after
    # A call that left with a secret was refused for that one, whatever another worker lacks.
    if standing.missing and not facts.call.fingerprint:
        names = _names([sight.worker for sight in standing.missing])
        return Cause(
            f"{len(standing.missing)} of {standing.workers} workers have no secret"
            if standing.seen
            else "No worker has the secret",
            CONFIGURATION,
            f"{names} find nothing usable at {reference}: {standing.missing[0].problem}{after}",
            [
                f"Place the secret at {reference} where {names} can read it.",
                "Restart those workers: what stands in an environment cannot change in a living process.",
                "Wait until presence says that all workers see the same fingerprint, then test the key.",
            ],
            facts.admins,
            "Rotating the key: it is good, it is only not where the workers look.",
        )
    if len(standing.fingerprints) > 1:
        return Cause(
            "The workers hold different secrets",
            CONFIGURATION,
            f"{len(standing.fingerprints)} different secrets stand at {reference}, so it depends on the worker whether a call is let in.{after}",
            [
                "Compare the fingerprints on the key's page with the secret that is right.",
                f"Place that one at {reference} on every host, and restart the workers.",
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key before all workers hold the same one.",
        )
    if (of_another := _another_s_secret(facts)) is not None:
        return of_another
    odd = [warning for warning in standing.warnings if is_odd(warning)]
    if standing.shorter_by and not facts.is_same_secret and facts.was_good is None:
        return Cause(
            "The secret was cut off",
            CONFIGURATION,
            f"What stands at {reference} is {_characters(standing.shorter_by)} shorter than the secret that stood there before. {' '.join(odd)}{after}".replace(
                "  ", " "
            ),
            [
                f"Place the whole key at {reference}: copy it anew from Icypeas, to its last character.",
                "Restart the workers, and wait until presence shows another fingerprint.",
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key: a good one was placed badly.",
        )
    if odd:
        return Cause(
            "The secret does not look like a key",
            CONFIGURATION,
            f"What stands at {reference}: {' '.join(odd)}{after}",
            [
                f"Place the whole key at {reference}: copy it anew from Icypeas, without a line break.",
                "Restart the workers, wait until presence says nothing of its shape, then test the key.",
            ],
            facts.admins,
            "Rotating the key: a good one was placed badly.",
        )
    return None


def _another_s_secret(facts: Facts) -> Cause | None:
    """The secret is known here, from another place: a wrong variable, field or file."""
    reference = facts.key.secret_ref
    if facts.is_api_secret:
        return Cause(
            "The API secret stands where the key belongs",
            CONFIGURATION,
            f"The secret at {reference} has the fingerprint of the one at {facts.key.account.api_secret_ref}. An account has two: the key "
            f"opens it, the API secret only signs.{facts.after}",
            [
                f"Place the key, not the API secret, at {reference}, and restart the workers.",
                "Test the key.",
            ],
            facts.admins,
            "Rotating the key: it was never sent.",
        )
    if facts.strangers:
        other = facts.strangers[0]
        return Cause(
            "The secret of another key stands here",
            CONFIGURATION,
            f"The secret at {reference} has the fingerprint of {other.name}, which belongs to the account {other.account.name} and not to "
            f"{facts.key.account.name}. It was taken from the wrong variable or field.{facts.after}",
            [
                f"Place the secret of {facts.key.account.name} at {reference}, or correct the reference of this record.",
                "Restart the workers, and compare the fingerprint.",
                "Test the key.",
            ],
            facts.admins,
            f"Rotating either key: both are good, and {other.name} would stop.",
        )
    return None


def _malformed(facts: Facts) -> Cause | None:
    """A secret that no header carries: our client refuses it, so nothing was sent. Everything else is cleaned (Bearer too)."""
    if facts.call.status is not None:
        return None
    return Cause(
        "The secret cannot be sent as it is",
        CONFIGURATION,
        f"Nothing was sent: {facts.call.message} Spaces, quotes, a line end and the word Bearer around a key are taken off by "
        f"themselves; what stands at {facts.key.secret_ref} holds something inside.{facts.after}",
        [
            f"Place the key alone at {facts.key.secret_ref}, copied anew from Icypeas, and restart the workers.",
            "Test the key: its shape is the second line of the test.",
        ],
        facts.admins,
        "Rotating the key: it never left.",
    )


def _refused_key(facts: Facts) -> Cause:
    """Refused with 401: by what the records show, from the likeliest to what is left."""
    suspects: tuple[Callable[[Facts], Cause | None], ...] = (
        _malformed,
        # What differs between workers is no cause when the very secret of this call was let in before.
        _injection if not facts.is_same_secret else _another_s_secret,
        _user_id,
        _closed,
        _another_environment,
        _older_secret,
        _placed,
        _moved,
        _passed,
    )
    found = (suspect(facts) for suspect in suspects)
    return next((cause for cause in found if cause is not None), _switched_off(facts))


def _user_id(facts: Facts) -> Cause | None:
    said = facts.call.message.lower().replace("_", "")
    if "user id" not in said and "usernotfound" not in said:
        return None
    account = facts.key.account
    return Cause(
        "Icypeas wants the account's user id, or does not know the key",
        CONFIGURATION,
        f"The answer names the user. {'No user id is entered for' if not account.user_id else 'Another user id may be entered for'} the account {account.name}.",
        [
            "Look up the user id on the API page of Icypeas.",
            f'Enter it: manage.py account set "{account.name}" --user-id … --reason …',
            "Test the key.",
        ],
        facts.admins,
        "Rotating the key: the answer is about the user.",
    )


def _closed(facts: Facts) -> Cause | None:
    """The way in is closed: by its end at the provider, or by a rule. Names the notice and its day, and offers no retry.
    Never while a key is let in: then it is open."""
    if facts.others_good is not None or facts.good_since is not None:
        return None
    message = facts.call.message
    notice = _OURS.sub("", message).rstrip(".")
    day, owner = (
        f"{facts.first_bad.at:%d %b %Y}",
        f"Whoever owns the account {facts.key.account.name} at Icypeas",
    )
    if _FORBIDDEN.search(message):
        return Cause(
            "A policy forbids keys",
            VENDOR,
            f"The notice, first seen on {day}, reads: “{notice}”. A rule of the organisation keeps keys out; nothing is wrong with this one.",
            [
                "Ask whoever sets the rules of the organisation at Icypeas whether this workload may be excepted.",
                "Pause the workloads of this key until then.",
            ],
            owner,
            "Trying again, rotating the key, or making another: the rule holds for all of them.",
            is_retryable=False,
        )
    if _RETIRED.search(message):
        return Cause(
            "Icypeas retires keys as a way in",
            VENDOR,
            f"The notice, first seen on {day}, reads: “{notice}”. A provider may end a way in; every key ends with it.",
            [
                "Read the notice at Icypeas, and ask its support which way in is open.",
                "Pause the workloads of this key until this app speaks it.",
            ],
            owner,
            "Trying again, rotating the key, or making another: the way in is closed for all of them.",
            is_retryable=False,
        )
    return None


def _another_environment(facts: Facts) -> Cause | None:
    """A secret of the real Icypeas that went to a stand-in, which knows its own keys alone."""
    if settings.ICYPEAS_IS_REAL or facts.key.account.realm == Realm.SANDBOX:
        return None
    return Cause(
        "A key of the real Icypeas was used against a sandbox",
        CONFIGURATION,
        f"{facts.key.name} is a {facts.key.environment} key, and ICYPEAS_BASE_URL is {settings.ICYPEAS_BASE_URL}, which is not Icypeas.",
        [
            "Set ICYPEAS_BASE_URL of the workers to Icypeas, or use a key of the environment sandbox here.",
            "Restart the workers, then test the key.",
        ],
        "Whoever runs the workers' hosts",
        "Rotating the key: Icypeas never saw it.",
    )


def _older_secret(facts: Facts) -> Cause | None:
    """A roll-back brought a secret back that had been replaced."""
    if not (facts.was_good and facts.is_another_secret and facts.last_good):
        return None
    return Cause(
        "The secret from before is back",
        CONFIGURATION,
        f"The call used the secret that was last let in on {facts.was_good.at:%d %b %H:%M} UTC; since then another one was placed and let in, "
        f"until {facts.last_good.at:%d %b %H:%M} UTC. A deployment or a restore may have brought the older one back.{facts.after}",
        [
            f"Place the newer secret, with the fingerprint {facts.last_good.fingerprint}, at {facts.key.secret_ref} again.",
            "Restart the workers, and look at the fingerprint.",
            "Test the key.",
        ],
        facts.admins,
        "Rotating the key: the newer one is good.",
    )


def _placed(facts: Facts) -> Cause | None:
    if facts.is_same_secret or not (facts.placed or facts.is_another_secret):
        return None
    placed = facts.placed
    since = (
        f"Since {placed.changed_at:%d %b %H:%M} UTC another secret stands at {facts.key.secret_ref}"
        f"{f' with release {placed.release}' if placed.release else ''}"
        if placed
        else f"The call used another secret ({facts.call.fingerprint}) than the last good one"
    )
    if facts.is_another_secret and facts.moved is not None:
        return None  # the record was pointed elsewhere: that is told by its own
    return Cause(
        "Another secret was placed, and Icypeas does not take it",
        CONFIGURATION,
        f"{since}; with the one before, calls went well. It may be cut off, of another account, or from the wrong variable.",
        [
            "Compare its length and its fingerprint with the secret that is right.",
            f"Place the right one at {facts.key.secret_ref} and restart the workers.",
            "Test the key.",
        ],
        facts.admins,
        "Rotating the key: the value that was placed is wrong, not the key.",
    )


def _moved(facts: Facts) -> Cause | None:
    changed = facts.moved
    if changed is None:
        return None
    return Cause(
        "The record points to another place since a change",
        CONFIGURATION,
        f"{changed.actor or changed.via} changed the reference on {changed.at:%d %b %H:%M} UTC; with the one before, calls went well.",
        [
            "Look at the history of the key.",
            "Correct the reference, or place the secret there.",
            "Test the key.",
        ],
        facts.admins,
        "Rotating the key.",
    )


def _passed(facts: Facts) -> Cause | None:
    """Another key of the account is let in: access is on, so it is this secret."""
    others = facts.others_good
    if others is None:
        return None
    return Cause(
        "This secret is not the account's any more",
        CONFIGURATION,
        f"{others.key} is let in to the same account with {'the same secret, so it may have passed' if others.fingerprint == facts.call.fingerprint else 'another secret'}. "
        "An account has one key: regenerating it at Icypeas ends every older one at once.",
        [
            f"Place the account's present key at {facts.key.secret_ref} and restart the workers.",
            "Test the key.",
        ],
        facts.admins,
        "Another regeneration: it would end the key that works.",
    )


def _switched_off(facts: Facts) -> Cause:
    account = facts.key.account
    same = (
        " The same secret was let in before, so nothing changed on our side." if facts.is_same_secret else ""
    )
    return Cause(
        "Icypeas lets no key of this account in",
        VENDOR,
        f"No key of the account was let in since.{same} API access may be switched off in the account, or its key was regenerated there and placed nowhere here.",
        [
            "Log in at Icypeas and look whether API access is switched on.",
            "Compare the key there with ours by placing it anew, without spaces, quotes or the word Bearer.",
            "Test the key.",
        ],
        f"Whoever owns the account {account.name} at Icypeas; {facts.admins} can place the secret",
        "Rotating the key while API access is off: the new one would be refused, too.",
    )


def _forbidden(facts: Facts) -> Cause:
    return _closed(facts) or Cause(
        "Icypeas knows the key and forbids the call",
        VENDOR,
        "The plan may not hold this operation, or the account is restricted.",
        [
            "Look at the plan and the notices in the account at Icypeas.",
            "Ask its support when nothing is told there.",
        ],
        f"Whoever owns the account {facts.key.account.name} at Icypeas",
        "Rotating the key: it was known.",
    )


def _unpaid(facts: Facts) -> Cause:
    return Cause(
        "The subscription is unpaid",
        VENDOR,
        "Icypeas knows the key and waits for a payment.",
        ["Pay the open invoice at Icypeas.", "Then press Resume on the jobs that wait."],
        _payer(facts),
        "Rotating the key: it was known.",
    )


def _payer(facts: Facts) -> str:
    return f"Whoever pays for the account {facts.key.account.name}: ask {who_can(Right.SET_BUDGETS)}"


def _too_few_words(facts: Facts) -> str:
    account = facts.key.account
    if not account.balance:
        return f"The account {account.name} holds less than the call can cost."
    return (
        f"Icypeas says that the account {account.name} holds less than the call can cost. When its balance was last read, it "
        f"held {ledger.words(account.balance)} credits."
    )


def _enough_steps(facts: Facts) -> list[str]:
    """A job that is refused though there are credits would be resumed for ever."""
    if not facts.key.account.balance:
        return []
    return [
        "If the balance is enough and the job pauses again, credits are not what is missing: ask Icypeas why it refuses these "
        "rows, or cancel the job and take its answers home."
    ]


def _out_of_credits(facts: Facts) -> Cause:
    return Cause(
        "The credits do not suffice",
        VENDOR,
        _too_few_words(facts),
        [
            "Buy credits at Icypeas.",
            "Then press Resume on the jobs that wait: no row is lost, and none is paid twice.",
            *_enough_steps(facts),
        ],
        _payer(facts),
        "Another key of the same account: they share one balance.",
    )


def _too_many(facts: Facts) -> Cause:
    return Cause(
        "Too many calls for this route",
        VENDOR,
        "Somebody else uses the account beside this app, or its limits were lowered. Nothing was created.",
        [
            "Nothing: the route waits and goes on by itself.",
            "When it keeps happening, find who else uses the account.",
        ],
        facts.admins,
        "Another key of the same account: they share the limits.",
    )


def _no_connection(facts: Facts) -> Cause:
    return Cause(
        "Icypeas could not be reached",
        NETWORK,
        "No connection opened, so nothing was sent and nothing is charged.",
        [
            "Look at ICYPEAS_BASE_URL, the name service, the firewall and the proxy of the workers' hosts.",
            "The rows wait and go on by themselves.",
        ],
        "Whoever runs the workers' hosts",
        "Rotating the key: it never left.",
    )


def _unclear(facts: Facts) -> Cause:
    return Cause(
        "The answer never came, or could not be read",
        NETWORK,
        "The call may have arrived. What it was about is looked up, and never sent again by itself.",
        [
            "Nothing: what can be settled is settled by itself.",
            "What cannot waits on the job's page for a person.",
        ],
        who_can(Right.SPEND),
        "Starting the list again: what is known is not asked again, and what is unclear is not sent.",
    )


def _vendor_trouble(facts: Facts) -> Cause:
    return Cause(
        "Icypeas has trouble of its own",
        VENDOR,
        "A free call failed at their end.",
        ["Nothing: it is read again, at growing distances."],
        "Nobody here",
        "Rotating the key.",
    )


def _rejected(facts: Facts) -> Cause:
    closed = _closed(facts) if facts.call.status and facts.call.status >= 300 else None
    return closed or Cause(
        "Icypeas did not take the input",
        CONFIGURATION,
        "The request was understood and refused; nothing was created and nothing is charged.",
        [
            "Look at the rows that failed and correct them.",
            "Report it when they look right: a field may have changed.",
        ],
        who_can(Right.SPEND),
        "Sending the same again.",
    )


def _scope(facts: Facts) -> Cause:
    scope, lost = facts.call.scope, facts.lost
    text = f"The key may not {SCOPES.get(scope, scope)}: the scope {scope} is not granted."
    title = f"The scope {scope} is missing"
    if lost is not None:
        reason = f": {lost.reason}" if lost.reason else ""
        text += f" {lost.actor or lost.via} took it away on {lost.at:%d %b %H:%M} UTC{reason}."
        title = f"The scope {scope} was lost"
        if facts.moved is not None:
            title += " in a rotation"
            text += " The secret's reference changed with it, so it may have been left out by mistake."
    return Cause(
        title,
        POLICY,
        text,
        [
            f"Grant {scope} to the key if its purpose covers it, or choose a key that has it.",
            "Then press Resume.",
        ],
        facts.admins,
        "Rotating the key: scopes are this app's own.",
    )


def removed(entry: AuditEntry, scope: str) -> bool:
    """Whether this change of a key took the scope away."""
    change = entry.detail.get("scopes")
    if not isinstance(change, list) or len(change) != 2:
        return False
    before, after = (str(part).split(", ") for part in change)
    return scope in before and scope not in after


def _environment(facts: Facts) -> Cause:
    return Cause(
        "The key belongs to another environment",
        POLICY,
        facts.call.message,
        [
            "Choose a key of the environment that the work belongs to.",
            "Or start workers that serve that environment.",
        ],
        facts.admins,
        "Moving the secret: a sandbox secret never goes to the real Icypeas.",
    )


def _budget(facts: Facts) -> Cause:
    return Cause(
        "A cap or a budget is used up",
        POLICY,
        facts.call.message,
        ["Wait for the next day or month, or have the cap or the budget raised.", "Then press Resume."],
        f"{facts.admins} for caps, {who_can(Right.SET_BUDGETS)} for budgets",
        "Another key of the same team: the budget is the team's.",
    )


def _state(facts: Facts) -> Cause:
    return Cause(
        "The key record lets nothing out",
        POLICY,
        facts.call.message,
        ["Look at the state of the record and at its history.", "Complete, renew or replace it."],
        facts.admins,
    )


def _missing_secret(facts: Facts) -> Cause:
    if facts.lacks_api_secret:
        return _missing_api_secret(facts)
    injected = _injection(facts)
    if injected is not None:
        return injected
    said, steps = _by_now(facts, facts.key.secret_ref)
    return Cause(
        "A worker found no secret",
        CONFIGURATION,
        f"{facts.call.worker or 'A worker'} found nothing usable at {facts.key.secret_ref}: {facts.call.message} {said}",
        steps,
        facts.admins,
        "Rotating the key: it never left.",
    )


def _missing_api_secret(facts: Facts) -> Cause:
    said, steps = _by_now(facts, facts.key.account.api_secret_ref)
    return Cause(
        "A worker found no API secret",
        CONFIGURATION,
        f"The account signs its requests, and {facts.call.worker or 'a worker'} found nothing to sign with. "
        f"{facts.call.message} {said}",
        steps,
        facts.admins,
        "Rotating the key, or placing it anew: it was found, and it is another secret that is missing.",
    )


def _by_now(facts: Facts, reference: str) -> tuple[str, list[str]]:
    """What workers find at the reference now, and what follows from it."""
    standing = facts.standing
    if standing.seen and not standing.missing and not standing.unheard:
        return "By now every worker sees one.", ["Press Resume on the jobs that wait."]
    steps = [
        f"Place the secret at {reference} where every worker can read it, and restart those that read their environment.",
        "Wait until every worker sees it, then press Resume on the jobs that wait.",
    ]
    if standing.missing:
        names = _names([sight.worker for sight in standing.missing])
        return f"{names} {'finds' if len(standing.missing) == 1 else 'find'} none now.", steps
    return "Not every worker has said yet what it finds now.", steps


CAUSES: dict[Outcome, Callable[[Facts], Cause]] = {
    Outcome.VENDOR_401: _refused_key,
    Outcome.VENDOR_403: _forbidden,
    Outcome.UNPAID: _unpaid,
    Outcome.OUT_OF_CREDITS: _out_of_credits,
    Outcome.VENDOR_429: _too_many,
    Outcome.NOT_SENT: _no_connection,
    Outcome.UNCERTAIN: _unclear,
    Outcome.VENDOR_5XX: _vendor_trouble,
    Outcome.READ_FAILED: _vendor_trouble,
    Outcome.VENDOR_REJECTED: _rejected,
    Outcome.POLICY_SCOPE: _scope,
    Outcome.POLICY_ENVIRONMENT: _environment,
    Outcome.POLICY_BUDGET: _budget,
    Outcome.POLICY_STATE: _state,
    Outcome.SECRET_MISSING: _missing_secret,
}


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count} characters"


def _names(workers: Sequence[str]) -> str:
    return workers[0] if len(workers) == 1 else f"{', '.join(workers[:-1])} and {workers[-1]}"
