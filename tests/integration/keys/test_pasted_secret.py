"""A secret pasted where a reference belongs stays nowhere: no answer, row, audit entry, session or log."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.apps import apps
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.test import Client

from keys.models import KeyRecord
from people.models import User
from tests.factories import make_key, make_user

pytestmark = pytest.mark.django_db
CANARY = "3f7a1b90c2d84e5f-canary"
PASTED = [
    CANARY,
    f" {CANARY}\n",
    f"env:{CANARY}",
    f"Bearer {CANARY}",
    f"env:ICYPEAS_{CANARY}",
    f"file:{CANARY}==",
]


@pytest.fixture
def admin(client: Client) -> User:
    person = make_user(role="key_admin")
    client.force_login(person)
    return person


def form(admin: User, **changes: Any) -> dict[str, Any]:
    return {
        "environment": "sandbox",
        "system": "training",
        "label": "revops",
        "owner": admin.id,
        "purpose": "Training",
        "scopes": ["leads:search"],
        "secret_ref": "env:ICYPEAS_API_KEY",
        "rotation_days": "90",
        **changes,
    }


def places_in_database() -> list[str]:
    """Tables that hold the canary anywhere."""
    found = []
    for model in apps.get_models():
        if any(CANARY in str(row) for row in model._default_manager.values()):
            found.append(model._meta.label)
    found += ["session" for session in Session.objects.all() if CANARY in str(session.get_decoded())]
    return found


@pytest.mark.parametrize("pasted", PASTED)
@pytest.mark.parametrize("field", ["secret_ref", "previous_secret_ref"])
@pytest.mark.parametrize("apply", ["", "preset"])
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_pasted_secret_is_thrown_away_by_the_form_of_a_new_record(
    client: Client,
    admin: User,
    caplog: pytest.LogCaptureFixture,
    pasted: str,
    field: str,
    apply: str,
    headers: dict[str, str],
) -> None:
    caplog.set_level(logging.DEBUG)

    answer = client.post("/keys/new/", form(admin, **{field: pasted, "apply": apply}), headers=headers)

    assert answer.status_code == (200 if apply else 422)
    assert CANARY not in answer.content.decode() + str(answer.headers)
    assert places_in_database() == []
    assert CANARY not in caplog.text
    assert not KeyRecord.objects.exists()
    if not apply:
        assert "reference" in " ".join(answer.context["form"].errors[field])


@pytest.mark.parametrize("pasted", PASTED)
def test_pasted_secret_is_thrown_away_by_the_form_of_an_edit(
    client: Client, admin: User, caplog: pytest.LogCaptureFixture, pasted: str
) -> None:
    caplog.set_level(logging.DEBUG)
    key = make_key("sandbox_training_revops")
    given = form(
        admin,
        secret_ref=pasted,
        account=key.account.id,
        rotate_by=key.rotate_by.isoformat(),
        reason="new secret",
    )

    answer = client.post("/keys/sandbox_training_revops/edit/", given)

    assert answer.status_code == 422
    assert CANARY not in answer.content.decode() + str(answer.headers)
    assert places_in_database() == []
    assert CANARY not in caplog.text
    key.refresh_from_db()
    assert key.secret_ref == "env:ICYPEAS_API_KEY"


@pytest.mark.parametrize("pasted", PASTED)
def test_pasted_secret_is_thrown_away_by_the_command(
    admin: User, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, pasted: str
) -> None:
    caplog.set_level(logging.DEBUG)

    with pytest.raises(CommandError) as caught:
        call_command(
            "key", "create", "--environment=sandbox", "--system=training", "--label=revops", f"--owner={admin.email}",
            "--purpose=Training", "--scopes=all", f"--secret={pasted}",
        )  # fmt: skip

    shown = capsys.readouterr()
    assert CANARY not in str(caught.value) + shown.out + shown.err + caplog.text
    assert places_in_database() == []


def test_canary_would_be_found_in_a_row() -> None:
    make_key(purpose=f"Somebody wrote {CANARY} here")

    assert places_in_database() == ["keys.KeyRecord"]
