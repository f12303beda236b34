"""Switches that change how the sandbox behaves, and presets of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from .faults import Fault


class SwitchError(ValueError):
    """An unknown switch or a value that does not fit; the text names it."""


@dataclass(frozen=True)
class Switches:
    """`speed` multiplies the sandbox's clock and, above 1, the rate limits; 0 stops the clock.

    `rate_scale` multiplies the limits further. `needs_one_credit_a_row` makes a bulk's balance check count one
    credit a row instead of the task's price. `needs_user_id` refuses bulk calls without the `user` key.
    `visibility_lag_s` (sandbox seconds) hides what was just accepted from reads.
    `scrapes_later` answers lists of pages to read with a file, as a bulk, which one integrator saw. `lookups_later` answers
    reverse look-ups while they still run: they are read by their search id. `bare_singles` lists single searches with
    nothing but `_id`, `status` and `results`, which is all that may be counted on, and tells of look-ups that have only
    begun nothing but their search id.
    `webhooks_delay_s` is wall time. `api_off` answers 401 to every key, as an account without API access does.
    `shuffle` holds for bulks submitted from then on, so that a listing under way keeps its order.
    """

    speed: float = 1.0
    rate_limits: bool = True
    rate_scale: float = 1.0
    shuffle: bool = True
    needs_one_credit_a_row: bool = False
    needs_user_id: bool = False
    out_of_credits: bool = False
    key_revoked: bool = False
    visibility_lag_s: float = 0.0
    scrapes_later: bool = False
    lookups_later: bool = False
    bare_singles: bool = False
    webhooks_duplicated: bool = False
    webhooks_shuffled: bool = False
    webhooks_dropped: bool = False
    webhooks_delay_s: float = 0.0
    api_off: bool = False

    @property
    def limit_factor(self) -> float:
        """What the documented limits are multiplied with. A slow or stopped clock does not lower them."""
        return max(1.0, self.speed) * self.rate_scale


RETIRED: Final = "API keys were retired and are no longer accepted."
FORBIDDEN: Final = "The security policy of your organization forbids API keys."


@dataclass(frozen=True)
class Profile:
    switches: Switches
    faults: tuple[Fault, ...] = ()


PROFILES: Final[dict[str, Profile]] = {
    "normal": Profile(Switches()),
    "slow": Profile(Switches(speed=0.25), (Fault("*", "delay", seconds=1.0),)),
    "flaky": Profile(
        Switches(),
        (
            Fault("*", "status", status=500, every=9, accept=False),
            Fault("*", "reset_before", every=13, accept=False),
            Fault("*", "reset_after_accept", every=17),
            Fault("*", "truncated", every=23),
            Fault("*", "html", status=502, every=29),
        ),
    ),
    "out-of-credits": Profile(Switches(out_of_credits=True)),
    "key-revoked": Profile(Switches(key_revoked=True)),
    "api-off": Profile(Switches(api_off=True)),
    "rate-limited": Profile(Switches(rate_scale=0.25)),
    "unpaid": Profile(
        Switches(), (Fault("*", "refusal", status=200, accept=False, word="UnpaidSubscriptionError"),)
    ),
    "keys-retired": Profile(
        Switches(), (Fault("*", "status", status=403, accept=False, word=f"{RETIRED} Use OAuth."),)
    ),
    "keys-forbidden": Profile(Switches(), (Fault("*", "status", status=403, accept=False, word=FORBIDDEN),)),
}


def make_switches(profile: str, speed: float) -> Switches:
    """The switches of a profile with its clock running `speed` times as fast."""
    preset = PROFILES[profile].switches
    return change(preset, {"speed": preset.speed * speed})


def change(switches: Switches, wanted: Any) -> Switches:
    """The switches with the wanted ones changed. SwitchError when a name or a value is impossible."""
    if not isinstance(wanted, dict):
        raise SwitchError("an object of switches is wanted")
    known = {field.name: type(getattr(switches, field.name)) for field in fields(switches)}
    values: dict[str, bool | float] = {}
    for name, value in wanted.items():
        if name not in known:
            raise SwitchError(f"unknown switch {name!r}; known: {', '.join(known)}")
        if known[name] is bool:
            if not isinstance(value, bool):
                raise SwitchError(f"{name} must be true or false")
            values[name] = value
        elif isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e6:
            raise SwitchError(f"{name} must be a number from 0 to 1000000")
        elif name == "rate_scale" and math.isclose(value, 0):
            raise SwitchError("rate_scale must be above 0")
        else:
            values[name] = float(value)
    return replace(switches, **values)  # type: ignore[arg-type]  # each value was checked against its field's type
