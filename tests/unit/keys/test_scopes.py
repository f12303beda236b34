"""Scopes as people write them."""

from __future__ import annotations

import pytest

from keys.scopes import PRESETS, SCOPES, ScopeError, parse_scopes


def test_scopes_are_parsed_sorted_and_once() -> None:
    assert parse_scopes("leads:search, email-search:bulk,leads:search") == [
        "email-search:bulk",
        "leads:search",
    ]


def test_all_means_every_scope() -> None:
    assert parse_scopes("all") == sorted(SCOPES)


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
