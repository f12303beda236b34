"""People, their teams and roles, the audit log and notices."""

from __future__ import annotations

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

from people.rights import RIGHTS, Right, Role


class Team(models.Model):
    """A group of people that shares jobs, rows and a budget. Months are counted in its time zone."""

    name = models.CharField(max_length=60, unique=True)
    time_zone = models.CharField(max_length=60, default="UTC")

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class UserManager(BaseUserManager["User"]):
    @classmethod
    def normalize_email(cls, email: str | None) -> str:
        """The whole address in lower case: it is the log-in, and people type it either way."""
        return (email or "").strip().lower()

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=self.normalize_email(username))


class User(AbstractBaseUser):
    """A person. The e-mail address is the log-in; roles are in `RoleGrant`."""

    email = models.EmailField(unique=True)
    name = models.CharField(max_length=120)
    team = models.ForeignKey(Team, on_delete=models.PROTECT, null=True, blank=True, related_name="people")
    time_zone = models.CharField(max_length=60, default="UTC")
    is_active = models.BooleanField(default=True)
    is_demo = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["name"]
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name

    @property
    def roles(self) -> list[str]:
        """Role values that the person holds; prefetch `role_grants` for lists."""
        return [grant.role for grant in self.role_grants.all()]

    @property
    def role_label(self) -> str:
        return ", ".join(Role(role).label for role in self.roles) or "No role"

    @property
    def rights(self) -> frozenset[Right]:
        """Everything that the person may do; empty for a disabled person. Read once per object."""
        if "_rights" not in self.__dict__:
            held: frozenset[Right] = frozenset()
            for role in self.roles if self.is_active else ():
                held |= RIGHTS.get(role, frozenset())
            self.__dict__["_rights"] = held
        rights: frozenset[Right] = self.__dict__["_rights"]
        return rights

    def may(self, right: Right) -> bool:
        return right in self.rights

    @property
    def initials(self) -> str:
        words = self.name.split()
        return "".join(word[0] for word in (words[:1] + words[-1:] if len(words) > 1 else words)).upper()


class RoleGrant(models.Model):
    """One role of one person."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="role_grants")
    role = models.CharField(max_length=20, choices=Role.choices)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["user", "role"], name="role_once_per_person"),)

    def __str__(self) -> str:
        return f"{self.user} {self.role}"


class AppendOnly(models.QuerySet[Any]):
    """Rows that are added and read. What changes or removes them past the model refuses as well."""

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("The audit log is append-only.")

    update = bulk_update = delete = _refuse
    aupdate = adelete = abulk_update = _raw_delete = _update = _refuse
    update_or_create = aupdate_or_create = _refuse


class AuditEntry(models.Model):
    """Who did what to which object, when and why. Append-only: `save` of an existing entry and `delete` refuse."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    via = models.CharField(max_length=200, default="browser")
    action = models.CharField(max_length=60, db_index=True)
    object_type = models.CharField(max_length=30)
    object_id = models.BigIntegerField(null=True, blank=True)
    object_text = models.CharField(max_length=200)
    reason = models.CharField(max_length=500, blank=True)
    detail = models.JSONField(default=dict, blank=True)

    objects = AppendOnly.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("-id",)
        indexes = (models.Index(fields=["object_type", "object_id"]),)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.action} {self.object_text}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("Audit entries are append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("Audit entries are append-only.")

    @property
    def words(self) -> str:
        """The action as a person says it: `key.changed` is "Key changed"."""
        return self.action.replace(".", " ").replace("_", " ").capitalize()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """`detail` as pairs of words: a changed field reads "old → new", an empty one is left out."""
        pairs = []
        for name, value in self.detail.items():
            if isinstance(value, list) and len(value) == 2 and self.action.endswith(".changed"):
                pairs.append((name, _change(*value)))
            elif value not in ("", None, [], {}):
                pairs.append((name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
        return pairs


class AuditSeal(models.Model):
    """The seal of one audit entry; in the order of their ids they form a chain (`seals`). Append-only."""

    entry = models.OneToOneField(AuditEntry, on_delete=models.PROTECT, related_name="seal")
    digest = models.CharField(max_length=64)

    objects = AppendOnly.as_manager()

    class Meta:
        base_manager_name = "objects"
        ordering = ("id",)

    def __str__(self) -> str:
        return f"seal of {self.entry_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError("Seals are append-only.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise TypeError("Seals are append-only.")


class Notice(models.Model):
    """Something that one person should know. `dedupe` names the occasion: nobody is told of it twice."""

    person = models.ForeignKey(User, on_delete=models.PROTECT, related_name="notices")
    kind = models.CharField(max_length=20)
    dedupe = models.CharField(max_length=120)
    title = models.CharField(max_length=200)
    text = models.CharField(max_length=700, blank=True)
    url = models.CharField(max_length=300, blank=True)  # a path of this app
    at = models.DateTimeField(db_index=True)
    read_at = models.DateTimeField(null=True, blank=True)
    mailed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["person", "dedupe"], name="told_once"),)
        indexes = (
            models.Index(fields=["person", "-id"]),
            models.Index(fields=["person"], condition=models.Q(read_at__isnull=True), name="unread_notices"),
            models.Index(
                fields=["person", "at"], condition=models.Q(mailed_at__isnull=True), name="unmailed_notices"
            ),
        )

    def __str__(self) -> str:
        return self.title

    @property
    def icon(self) -> str:
        icons = {
            "rotation": "clock",
            "expiry": "clock",
            "due": "clock",
            "finding": "circle-alert",
            "budget": "wallet",
        }
        return icons.get(self.kind, "bell")


class Digest(models.Model):
    """The one mail of a person and day (theirs). `sent_at` is written before it is sent and taken back when it was refused."""

    person = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    day = models.DateField()
    tries = models.PositiveIntegerField(default=0)
    next_try_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)
    problem = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["person", "day"], name="one_digest_a_day"),)

    def __str__(self) -> str:
        return f"{self.person_id} {self.day}"


class Chore(models.Model):
    """Periodic work that is done at most once in a while, however many schedulers run."""

    name = models.CharField(max_length=40, unique=True)
    begun_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name


def _change(before: object, after: object) -> str:
    """What became of one field; of a list, what was added and taken away."""
    old, new = str(before).split(", "), str(after).split(", ")
    if len(old) < 2 and len(new) < 2:
        return f"{before or 'nothing'} → {after or 'nothing'}"
    added, removed = [item for item in new if item not in old], [item for item in old if item not in new]
    parts = [f"added {', '.join(added)}"] * bool(added) + [f"removed {', '.join(removed)}"] * bool(removed)
    return "; ".join(parts)
