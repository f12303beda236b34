"""The page that shows every component in every state, with invented data."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from math import sin

from django import forms
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from config.ui import states
from people.permissions import require_right
from people.rights import Right

COUNTS = {
    "found": 5214,
    "not_found": 2068,
    "cached": 1136,
    "skipped": 214,
    "failed": 37,
    "uncertain": 3,
    "in_flight": 1500,
    "waiting": 2228,
}


class SampleForm(forms.Form):
    """One field of each kind; bound with a wrong number, so that errors show."""

    label = forms.CharField(
        help_text="A hint, one line.", widget=forms.TextInput(attrs={"placeholder": "Placeholder"})
    )
    cap = forms.DecimalField(label="Daily cap", max_digits=12, decimal_places=1, widget=forms.TextInput)
    environment = forms.CharField(label="Not allowed")
    key = forms.ChoiceField(choices=[("1", "prod_list_building_sdrops"), ("2", "prod_crm_sync_revops")])
    purpose = forms.CharField(
        label="What is this for?", required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    password = forms.CharField(widget=forms.PasswordInput)
    known = forms.BooleanField(
        label="Use a known answer up to 90 days old", help_text="then it costs nothing"
    )
    delimiter = forms.ChoiceField(choices=[(",", "Comma"), (";", "Semicolon")], widget=forms.RadioSelect)
    upload = forms.FileField(label="List", required=False, help_text="CSV, up to 256 MB")


def sample_days() -> list[dict[str, object]]:
    """30 days with quiet week-ends, as a stacked chart wants them."""
    today = timezone.localdate()
    days: list[dict[str, object]] = []
    for back in range(29, -1, -1):
        day = today - timedelta(days=back)
        scale = 0.06 if day.weekday() > 4 else 1 + 0.12 * sin(back * 1.7)
        values = [Decimal(round(amount * scale)) for amount in (7000, 1300, 0, 1100, 0, 120)]
        days.append(
            {"label": f"{day.day} {day:%b}" if back else "today", "values": values, "url": f"?day={day}"}
        )
    return days


def sample_context() -> dict[str, object]:
    """Everything that `styleguide.html` shows."""
    now = timezone.now()
    form = SampleForm(
        {"cap": "12,000.123", "environment": "prod", "known": "on", "delimiter": ";", "key": "1"}
    )
    form.fields["label"].required = False
    form.fields["environment"].required = False
    form.fields["password"].required = False
    return {
        "form": form,
        "counts": COUNTS,
        "zero": {},
        "sliver": {"found": 999_999, "failed": 1},
        "job_states": list(states.JOB),
        "row_states": list(states.ROW),
        "key_states": list(states.KEY),
        "call_states": list(states.CALL),
        "series": [
            "Find emails",
            "Company profiles",
            "Reverse look-up",
            "Verify",
            "Person profiles",
            "Other",
        ],
        "days": sample_days(),
        "spark": [1700 if day % 7 < 5 else 80 for day in range(30)],
        "flat": [0] * 30,
        "now": now,
        "minutes_ago": now - timedelta(minutes=21),
        "weeks_ago": now - timedelta(days=33),
        "in_days": now + timedelta(days=6),
        "span": timedelta(minutes=14, seconds=20),
        "views": [
            {"label": "All", "url": "?", "count": 10, "is_current": True},
            {"label": "With findings", "url": "?view=findings", "count": 4},
            {"label": "Mine", "url": "?view=mine", "count": 3},
        ],
        "teams": [
            {"label": "RevOps", "url": "?team=1", "count": 7},
            {"label": "Growth", "url": "?team=2", "count": 3, "is_current": True},
        ],
        "modes": [
            {"label": "Credits", "url": "?", "is_current": True},
            {"label": "Euro", "url": "?unit=euro"},
        ],
        "wizard_steps": [
            {"label": "Operation", "state": "done", "url": "?"},
            {"label": "List", "state": "done", "url": "?"},
            {"label": "Review and start", "state": "current"},
        ],
        "checks": [
            {"name": "Reference resolves", "state": "ok", "value": "4 of 4"},
            {
                "name": "Shape is plausible",
                "state": "bad",
                "value": "2 of 4",
                "note": "worker-3 and worker-4: starts with “Bearer ”, 7 characters too long",
            },
            {"name": "Key accepted", "state": "running"},
            {"name": "Scopes as declared", "state": "not_reached", "value": "not reached"},
        ],
        "events": [
            {"icon": "circle-check", "tone": "ok", "text": "Finished", "at": now - timedelta(minutes=1)},
            {
                "icon": "triangle-alert",
                "tone": "warn",
                "text": "Batch 7 got no clear answer",
                "at": now - timedelta(minutes=8),
            },
            {
                "icon": "play",
                "tone": "info",
                "text": "Started, 4,273 credits reserved",
                "at": now - timedelta(minutes=15),
                "by": "Ana Duarte",
            },
        ],
        "check_parts": [
            {"state": "in_flight", "label": "Will be asked", "count": 7046, "note": "at most 1 credit each"},
            {"state": "cached", "label": "Already known", "count": 612, "note": "saves up to 612 credits"},
            {
                "state": "cached",
                "label": "Duplicates",
                "count": 356,
                "note": "asked once, answered on every row",
            },
            {
                "state": "skipped",
                "label": "Will be skipped",
                "count": 186,
                "note": "stay in the export with a reason",
            },
        ],
        "people": [
            (1, "Amélie Roux", "amelie.roux@loxwell.example", "found", "1.0", True),
            (2, "Jürgen Brandtner", "j.brandtner@kestrel-freight.example", "cached", "0.0", True),
            (3, "M. van den Berg", "no email found", "not_found", "0.0", False),
            (4, "Ada Nwosu", "not asked: no company", "skipped", "0.0", False),
            (5, "Chukwuemeka Oluwaseun-Adeyemi", "may be at Icypeas", "uncertain", "0 or 1", False),
        ],
    }


@require_GET
@require_right(Right.VIEW_STYLEGUIDE)
def styleguide(request: HttpRequest) -> HttpResponse:
    """Only for those who may look behind the scenes: it explains nothing to others."""
    return render(request, "styleguide.html", sample_context())
