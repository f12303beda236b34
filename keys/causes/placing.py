"""How the secret got to the workers: what is looked at first, since most refused keys are a value that was placed wrongly."""

from __future__ import annotations

from collections.abc import Sequence

from keys.causes.facts import CONFIGURATION, Cause, Facts
from keys.secrets import is_odd

RESUME = "press Resume on the jobs that wait"


def injection(facts: Facts) -> Cause | None:
    """What is wrong with how the secret got to the workers, or None. Always looked at first."""
    standing, reference, after = facts.standing_then, facts.key.secret_ref, facts.after
    # A call that left with a secret was refused for that one, whatever another worker lacks.
    if standing.missing and not facts.call.fingerprint:
        names = _names([sight.worker for sight in standing.missing])
        return Cause(
            f"{len(standing.missing)} of {standing.workers} workers have no secret"
            if facts.standing.seen
            else "No worker has the secret",
            CONFIGURATION,
            f"{names} {'finds' if len(standing.missing) == 1 else 'find'} nothing usable at {reference}: {standing.missing[0].problem}{after}",
            [
                f"Place the secret at {reference} where {names} can read it.",
                f"Restart {'that worker' if len(standing.missing) == 1 else 'those workers'}: what stands in an environment cannot change in a living process.",
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
    if (of_another := another_s_secret(facts)) is not None:
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


def another_s_secret(facts: Facts) -> Cause | None:
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


def malformed(facts: Facts) -> Cause | None:
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


def older_secret(facts: Facts) -> Cause | None:
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


def another_placed(facts: Facts) -> Cause | None:
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


def pointed_elsewhere(facts: Facts) -> Cause | None:
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


def missing_secret(facts: Facts) -> Cause:
    if facts.lacks_api_secret:
        return _missing_api_secret(facts)
    injected = injection(facts)
    if injected is not None:
        return injected
    is_of_a_form = not facts.call.worker  # refused before anything came to a worker
    said, steps = _by_now(facts, facts.key.secret_ref, "start it again" if is_of_a_form else RESUME)
    if is_of_a_form:
        return Cause(
            "No running worker found the secret",
            CONFIGURATION,
            f"When it was asked for, no running worker found the secret at {facts.key.secret_ref}, so nothing was started. {said}",
            steps,
            facts.admins,
            "Rotating the key: it never left.",
        )
    return Cause(
        "A worker found no secret",
        CONFIGURATION,
        f"{facts.call.worker} found nothing usable at {facts.key.secret_ref}: {facts.call.message} {said}",
        steps,
        facts.admins,
        "Rotating the key: it never left.",
    )


def _missing_api_secret(facts: Facts) -> Cause:
    account = facts.key.account
    said, steps = (
        _by_now(facts, account.api_secret_ref, RESUME)
        if account.signs_requests and account.api_secret_ref
        else ("By now the account signs nothing.", [_sentence(RESUME)])
    )
    return Cause(
        "A worker found no API secret",
        CONFIGURATION,
        f"The account signed its requests then, and {facts.call.worker or 'a worker'} found nothing to sign with. "
        f"{facts.call.message} {said}",
        steps,
        facts.admins,
        "Rotating the key, or placing it anew: it was found, and it is another secret that is missing.",
    )


def _by_now(facts: Facts, reference: str, then: str) -> tuple[str, list[str]]:
    """What workers find at the reference now, and what follows from it; `then` is the last step."""
    standing = facts.standing
    if standing.seen and not standing.missing and not standing.unheard:
        return "By now every worker sees one.", [_sentence(then)]
    steps = [
        f"Place the secret at {reference} where every worker can read it, and restart those that read their environment.",
        f"Wait until every worker sees it, then {then}.",
    ]
    if standing.missing:
        names = _names([sight.worker for sight in standing.missing])
        return f"{names} {'finds' if len(standing.missing) == 1 else 'find'} none now.", steps
    return "Not every worker has said yet what it finds now.", steps


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count} characters"


def _names(workers: Sequence[str]) -> str:
    return workers[0] if len(workers) == 1 else f"{', '.join(workers[:-1])} and {workers[-1]}"
