"""Why Icypeas refuses a key or a request: 401, 403, and input that it does not take."""

from __future__ import annotations

import re
from collections.abc import Callable

from django.conf import settings

from keys.causes import placing
from keys.causes.facts import CONFIGURATION, VENDOR, Cause, Facts
from keys.choices import Realm
from people.rights import Right
from people.selectors import who_can

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


# Statuses of something that is not the route that we know: another address, a proxy, a thing that has gone.
ELSEWHERE = (301, 302, 303, 307, 308, 404, 405)


def refused_key(facts: Facts) -> Cause:
    """Refused with 401: by what the records show, from the likeliest to what is left."""
    suspects: tuple[Callable[[Facts], Cause | None], ...] = (
        placing.malformed,
        # What differs between workers is no cause when the very secret of this call was let in before.
        placing.injection if not facts.is_same_secret else placing.another_s_secret,
        _user_id,
        _closed,
        _another_environment,
        placing.older_secret,
        placing.another_placed,
        placing.pointed_elsewhere,
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


def forbidden(facts: Facts) -> Cause:
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


def rejected(facts: Facts) -> Cause:
    status = facts.call.status or 0
    if status >= 300 and (closed := _closed(facts)):
        return closed
    if status in ELSEWHERE:
        return Cause(
            "What answered does not know this call",
            CONFIGURATION,
            f"{settings.ICYPEAS_BASE_URL} answered with HTTP {status}. It may not be Icypeas, a proxy may stand before it, or what was asked "
            "for is not there any more.",
            [
                "Look at ICYPEAS_BASE_URL and at the proxies of the workers' hosts.",
                "When both are right, ask the support of Icypeas whether the route has changed.",
                "Then press Resume on the jobs that wait: the same is sent again.",
            ],
            "Whoever runs the workers' hosts",
            "Rotating the key: the answer is not about it.",
        )
    return Cause(
        "Icypeas did not take the request",
        CONFIGURATION,
        "The request was understood and refused; nothing was created by it and nothing is charged for it.",
        [
            "Read what Icypeas said, above.",
            "When rows of the job failed, correct them. When the job waits, Resume sends the same again.",
            "Report it when the rows look right: a field may have changed.",
        ],
        who_can(Right.SPEND),
        "Sending the same again.",
    )
