"""Scopes as people write them."""

from __future__ import annotations

import pytest

from enrichment import operations
from keys.scopes import PRESETS, SCOPES, Preset, ScopeError, parse_scopes


def test_scopes_are_parsed_sorted_and_once() -> None:
    assert parse_scopes("leads:search, email-search:bulk,leads:search") == [
        "email-search:bulk",
        "leads:search",
    ]


def test_all_means_every_scope() -> None:
    assert parse_scopes("all") == sorted(SCOPES)


def test_every_operation_in_every_mode_has_a_scope_with_its_own_sentence() -> None:
    wanted = {
        operation.scope(mode) for operation in operations.OPERATIONS.values() for mode in ("bulk", "single")
    }

    assert wanted == set(SCOPES)
    assert len(set(SCOPES.values())) == len(SCOPES)


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS.keys())
def test_preset_is_a_small_set_with_a_place_to_run(preset: Preset) -> None:
    assert set(preset.scopes) < set(SCOPES)
    assert len(preset.scopes) <= 3
    assert preset.environment in ("prod", "dev")
    assert preset.runs_in.endswith(".")


@pytest.mark.parametrize("name", ["bulk_verification", "bulk-verification"])
def test_preset_is_parsed_by_either_spelling(name: str) -> None:
    assert parse_scopes(name) == ["email-verification:bulk"]


def test_preset_and_scopes_are_joined() -> None:
    assert parse_scopes("bulk_verification,leads:search") == ["email-verification:bulk", "leads:search"]


def test_unknown_scope_is_refused_with_what_there_is() -> None:
    with pytest.raises(ScopeError, match="Unknown scope 'email-verify:bulk'") as caught:
        parse_scopes("email-verify:bulk")

    assert "email-verification:bulk" in str(caught.value)
    assert "bulk_verification" in str(caught.value)


@pytest.mark.parametrize("text", ["", " ", ","])
def test_no_scope_is_refused(text: str) -> None:
    with pytest.raises(ScopeError, match="at least one"):
        parse_scopes(text)


def test_presets_grant_only_known_scopes_and_say_where_they_run() -> None:
    for preset in PRESETS.values():
        assert set(preset.scopes) <= set(SCOPES)
        assert preset.runs_in.endswith(".")


def test_no_preset_grants_more_than_three_scopes() -> None:
    assert max(len(preset.scopes) for preset in PRESETS.values()) <= 3
