"""Where a worker finds a secret, and the wrapper that keeps it unseen.

Only a process that acts as a worker resolves references (`act_as_worker`); everybody else gets an error.
"""

from keys.secrets.base import (
    ResolvedSecret,
    Secret,
    SecretError,
    SecretMissingError,
    act_as_worker,
    cannot_be_sent,
    check_reference,
    is_odd,
    resolve,
)

__all__ = [
    "ResolvedSecret",
    "Secret",
    "SecretError",
    "SecretMissingError",
    "act_as_worker",
    "cannot_be_sent",
    "check_reference",
    "is_odd",
    "resolve",
]
