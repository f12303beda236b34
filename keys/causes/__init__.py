"""The causes of failed calls: what most likely happened, what to do, who can, and what will not help.

The first question is always whether the secret got to the workers as it should: most refused keys are a value that was
placed wrongly, and rotating a good key only adds a second trouble.
"""

from __future__ import annotations

from collections.abc import Callable

from keys.causes import placing, refused, rules, trouble
from keys.causes.facts import Cause, Facts
from keys.choices import Outcome

CAUSES: dict[Outcome, Callable[[Facts], Cause]] = {
    Outcome.VENDOR_401: refused.refused_key,
    Outcome.VENDOR_403: refused.forbidden,
    Outcome.UNPAID: trouble.unpaid,
    Outcome.OUT_OF_CREDITS: trouble.out_of_credits,
    Outcome.VENDOR_429: trouble.too_many,
    Outcome.NOT_SENT: trouble.no_connection,
    Outcome.UNCERTAIN: trouble.unclear,
    Outcome.VENDOR_5XX: trouble.vendor_trouble,
    Outcome.READ_FAILED: trouble.vendor_trouble,
    Outcome.VENDOR_REJECTED: refused.rejected,
    Outcome.POLICY_SCOPE: rules.scope_missing,
    Outcome.POLICY_ENVIRONMENT: rules.wrong_environment,
    Outcome.POLICY_BUDGET: rules.used_up,
    Outcome.POLICY_STATE: rules.not_usable,
    Outcome.SECRET_MISSING: placing.missing_secret,
}
