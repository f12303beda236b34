import copy
import pickle
from datetime import UTC, datetime

import httpx
import pytest

from enrichment.providers.base import KeyRejectedError
from enrichment.providers.icypeas.auth import KeyAuth, check_secret, clean_secret, sign_request, timestamp
from tests.unit.enrichment.icypeas_wire import API_SECRET, SECRET, Wire, answer


@pytest.mark.parametrize(
    "raw",
    [
        f"Bearer {SECRET}",
        f"bearer   {SECRET}",
        f'"{SECRET}"',
        f"'Bearer {SECRET}'",
        f'Bearer "{SECRET}"',
        f"  {SECRET}\n",
        f"\ufeff{SECRET}\u200b",
        f"“{SECRET}”",
        f"Authorization: Bearer {SECRET}",
        f"Bearer Bearer {SECRET}",
    ],
)
def test_clean_secret_finds_the_bare_key_and_says_what_it_took_off(raw):
    secret, warnings = clean_secret(raw)

    assert secret == SECRET
    assert warnings
    assert not any(SECRET in warning for warning in warnings)


def test_clean_secret_leaves_a_bare_key_alone():
    assert clean_secret(SECRET) == (SECRET, [])


def test_clean_secret_leaves_a_key_alone_that_merely_begins_with_bearer():
    assert clean_secret("bearerish-key") == ("bearerish-key", [])


@pytest.mark.parametrize("raw", ["", "   ", '""', "Bearer", "Bearer  "])
def test_clean_secret_is_empty_when_nothing_but_decoration_was_pasted(raw):
    assert clean_secret(raw)[0] == ""


@pytest.mark.parametrize("secret", ["", "two words", "line\nbreak", "schlüssel", "tab\tin"])
def test_check_secret_refuses_without_quoting_what_no_header_takes(secret):
    with pytest.raises(KeyRejectedError) as caught:
        check_secret(secret)

    assert caught.value.status is None
    assert not secret or secret not in str(caught.value)


def test_sign_request_equals_the_published_algorithm_on_the_known_vector():
    signature = sign_request(
        "demo-secret", method="POST", path="/api/email-search", stamp="2026-01-15T08:30:00.000Z"
    )

    assert signature == "3d9b1465af43dc0f3f35687af77f66534a3c61f9"


def test_timestamp_has_milliseconds_and_z():
    assert timestamp(datetime(2026, 1, 15, 8, 30, 0, 7999, tzinfo=UTC)) == "2026-01-15T08:30:00.007Z"


def test_key_auth_signs_the_path_without_the_query():
    auth = KeyAuth("key", "demo-secret", clock=lambda: datetime(2026, 1, 15, 8, 30, tzinfo=UTC))
    request = httpx.Request("POST", "https://icypeas.example/api/email-search?x=1")

    next(auth.auth_flow(request))

    assert request.headers["Authorization"] == "key:3d9b1465af43dc0f3f35687af77f66534a3c61f9"
    assert request.headers["X-ROCK-TIMESTAMP"] == "2026-01-15T08:30:00.000Z"


def test_key_auth_masks_both_secrets_in_any_case():
    auth = KeyAuth(SECRET, API_SECRET)

    assert auth.mask(f"<{SECRET.upper()}> <{API_SECRET}>") == "<***> <***>"


@pytest.mark.parametrize("spread", [repr, str, "{!r}".format])
def test_key_shows_in_no_text_form_of_auth_and_client(spread):
    wire = Wire(answer("balance"), api_secret=API_SECRET)

    text = spread(KeyAuth(SECRET, API_SECRET)) + spread(wire.client)

    assert SECRET not in text
    assert API_SECRET not in text


@pytest.mark.parametrize("spread", [pickle.dumps, copy.copy, copy.deepcopy])
def test_key_leaves_auth_and_client_neither_pickled_nor_copied(spread):
    for thing in (KeyAuth(SECRET), Wire(answer("balance")).client):
        with pytest.raises(TypeError):
            spread(thing)
