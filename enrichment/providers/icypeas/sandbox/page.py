"""The sandbox's page for people: how it behaves, what its accounts hold, what was called and charged.

Plain HTML and forms. It is for the browser of this machine alone; `server` refuses everybody else.
"""

from __future__ import annotations

from html import escape
from typing import Any, Final

PROFILE_WORDS: Final = {
    "normal": ("Normal", "answers within seconds"),
    "slow": ("Slow", "a quarter of the speed, and a second of delay on each call"),
    "flaky": ("Flaky", "server errors, resets and broken answers every few calls"),
    "out-of-credits": ("Out of credits", "every account looks empty"),
    "key-revoked": ("Key revoked", "401 to every key, as after a regeneration"),
    "api-off": ("API switched off", "401 to every key, as in an account without API access"),
    "unpaid": ("Unpaid", "every call is refused until the subscription is paid"),
    "keys-retired": ("Keys retired", "403 to every key: the way in was closed"),
    "keys-forbidden": ("Keys forbidden", "403 to every key: a policy of the organisation"),
    "rate-limited": ("Rate limited hard", "a quarter of the documented limits"),
}
SWITCH_WORDS: Final = {
    "rate_limits": "Keep the documented rate limits",
    "shuffle": "List the rows of new bulks in another order than they came",
    "needs_one_credit_a_row": "Accept a list only with one credit a row",
    "needs_user_id": "Refuse lists without the user id",
    "scrapes_later": "Answer lists of pages later, as a file",
    "lookups_later": "Answer reverse look-ups before they have ended",
    "bare_singles": "List single searches with id, status and results alone",
    "webhooks_duplicated": "Call webhooks twice",
    "webhooks_shuffled": "Call webhooks out of order",
    "webhooks_dropped": "Lose webhooks",
}
_CSS: Final = """
:root { color-scheme: light dark; --line: light-dark(#e3e4e0, #30322f); --soft: light-dark(#5f625c, #a4a79f);
  --fill: light-dark(#f6f7f4, #1d1f1c); --accent: light-dark(#0b57c5, #8ab4f8); }
* { box-sizing: border-box; }
body { max-width: 960px; margin: 0 auto; padding: 24px 16px 64px; font: 15px/22px system-ui, sans-serif;
  background: light-dark(#fff, #151614); color: light-dark(#1a1b18, #ecede9); }
h1 { font-size: 22px; line-height: 28px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 32px 0 10px; }
p { margin: 0 0 8px; } .soft { color: var(--soft); font-size: 13.5px; line-height: 19px; }
ul { list-style: none; margin: 0; padding: 0; }
.profiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(210px, 1fr)); gap: 8px; }
.profiles button { width: 100%; height: 100%; text-align: left; }
button { font: inherit; color: inherit; padding: 8px 12px; border: 1px solid var(--line); border-radius: 6px;
  background: var(--fill); cursor: pointer; }
button:hover, button:focus-visible { border-color: var(--accent); outline: none; }
button[aria-pressed="true"] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
button span { display: block; color: var(--soft); font-size: 13px; line-height: 18px; }
input[type="text"] { font: inherit; width: 110px; padding: 6px 8px; border: 1px solid var(--line); border-radius: 6px;
  background: transparent; color: inherit; }
label.line { display: flex; gap: 8px; padding: 3px 0; } .row { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; }
td .row { flex-wrap: nowrap; }
.scroll { overflow-x: auto; } table { width: 100%; border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { font-weight: 500; color: var(--soft); } .num { text-align: right; font-variant-numeric: tabular-nums; }
code { font: 13px/18px ui-monospace, monospace; }
"""


def draw(state: dict[str, Any], charges: list[dict[str, Any]], profile: str) -> str:
    """The page for a `show_state` and the newest charges."""
    return (
        "<!DOCTYPE html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>Icypeas sandbox</title><style>{_CSS}</style></head><body>"
        "<h1>Icypeas sandbox</h1><p class=soft>A local stand-in with invented data. No money moves, and nothing leaves this"
        " machine.</p>"
        f"{_profiles(profile)}{_switches(state['settings'])}{_accounts(state['accounts'])}"
        f"{_requests(state['requests'])}{_charges(charges)}{_faults(state['faults'])}"
        "<h2>Start over</h2><form method=post action=/control/reset><button>Forget everything</button>"
        "<p class=soft>Lists, searches and charges are gone, and each account has its first credits again.</p></form>"
        "</body></html>"
    )


def _profiles(current: str) -> str:
    buttons = "".join(
        f"<li><button name=profile value='{name}' aria-pressed={'true' if name == current else 'false'}>{title}"
        f"<span>{words}</span></button></li>"
        for name, (title, words) in PROFILE_WORDS.items()
    )
    return (
        "<h2>How it behaves</h2><form method=post action=/control/profile>"
        f"<ul class=profiles>{buttons}</ul></form>"
    )


def _switches(settings: dict[str, Any]) -> str:
    lines = "".join(
        f"<li><label class=line><input type=checkbox name='{name}' value=true{' checked' if settings[name] else ''}>{words}</label></li>"
        for name, words in SWITCH_WORDS.items()
    )
    return (
        "<h2>One by one</h2><form method=post action=/control/settings>"
        f"<ul>{lines}</ul><p class=row><label>Clock and limits times <input type=text inputmode=decimal name=speed value='{settings['speed']:g}'></label>"
        "<button>Set</button></p></form>"
    )


def _accounts(accounts: dict[str, dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code></td>"
        f"<td><form method=post action=/control/credits class=row><input type=hidden name=user_id value='{escape(name)}'>"
        f"<input type=text inputmode=decimal name=credits value='{entry['credits']}' aria-label='Credits of {escape(name)}'><button>Set</button></form></td>"
        f"<td class=num>{entry['charged']}</td><td>{escape(entry['email'])}</td></tr>"
        for name, entry in accounts.items()
    )
    return (
        "<h2>Accounts</h2><div class=scroll><table><thead><tr><th>User id<th>Credits<th class=num>Charged<th>Owner</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _requests(requests: dict[str, dict[str, int]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(route)}</code></td><td class=num>{counts['total']:,}</td><td class=num>{counts['429']:,}</td>"
        f"<td class=num>{counts['401']:,}</td><td class=num>{counts['faults']:,}</td></tr>"
        for route, counts in requests.items()
    )
    body = (
        rows
        and f"<div class=scroll><table><thead><tr><th>Route<th class=num>Calls<th class=num>429<th class=num>401<th class=num>Spoiled</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f"<h2>Calls since the start</h2>{body or '<p class=soft>None yet.</p>'}"


def _charges(charges: list[dict[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td>{escape(charge['at'][:19].replace('T', ' '))}</td><td class=num>{charge['credits']}</td>"
        f"<td>{escape(charge['kind'])}</td><td>{escape(', '.join(cell for cell in charge['input'] if cell))[:120]}</td></tr>"
        for charge in reversed(charges)
    )
    body = (
        rows
        and f"<div class=scroll><table><thead><tr><th>When, UTC<th class=num>Credits<th>What<th>Input</tr></thead><tbody>{rows}</tbody></table></div>"
    )
    return f"<h2>Last charges</h2>{body or '<p class=soft>None yet.</p>'}"


def _faults(faults: list[dict[str, Any]]) -> str:
    lines = "".join(
        f"<li><code>{escape(str(fault['route']))}</code> {escape(str(fault['kind']))}, every {fault['every']}, left {fault['times']}</li>"
        for fault in faults
    )
    return f"<h2>Armed faults</h2><ul class=soft>{lines}</ul>" if lines else ""
