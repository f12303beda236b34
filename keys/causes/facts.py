"""What is known around a failed call, and what a cause says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from keys import presence
from keys.models import Call, KeyRecord
from people.models import AuditEntry

CONFIGURATION = "Our configuration"
POLICY = "Our own rules"
VENDOR = "Icypeas"
NETWORK = "The network"


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
