"""The design system: formats, geometry, tags, and what the Content-Security-Policy demands of all markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import lucide
import pytest
from django import forms
from django.template import Context, Template
from django.template.loader import render_to_string

from config.styleguide import SampleForm, sample_context
from config.ui import charts, numbers, states
from config.ui.registry import attributes

urlpatterns: list[object] = []  # the frame asks for addresses by name; none of them has to exist

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))


def render(source: str, **context: object) -> str:
    return Template(source).render(Context(context)).replace(numbers.NBSP, " ")


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (5214, None, "5,214"),
        (Decimal("271.2"), None, "271.2"),
        (Decimal("85970.80"), None, "85,970.8"),
        (Decimal("0.05"), None, "0.05"),
        (Decimal("5214"), 1, "5,214.0"),
        (0, None, "0"),
        (Decimal("-0.00"), None, "0"),
        (Decimal("-41"), None, "-41"),
        (None, None, "unknown"),
        ("", None, "unknown"),
        ("NaN", None, "unknown"),
    ],
)
def test_credits_show_tenths_only_where_there_are_some(value, digits, text):
    assert numbers.credits(value, digits) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (614, 1000, "61.4 %"),
        (0, 12, "0 %"),
        (12, 12, "100 %"),
        (1, 1_000_000, "<0.1 %"),
        (999_999, 1_000_000, ">99.9 %"),
        (0, 0, "0 %"),
        (None, 5, "unknown"),
    ],
)
def test_share_never_rounds_something_to_nothing_or_to_all(part, whole, text):
    assert numbers.share(part, whole).replace(numbers.NBSP, " ") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (860, "14 min 20 s"),
        (7500, "2 h 5 min"),
        (7205, "2 h"),
        (1.8, "1.8 s"),
        (0, "0 s"),
        (90_000, "1 d 1 h"),
        (59.96, "1 min"),
        (timedelta(minutes=3), "3 min"),
        (None, "unknown"),
    ],
)
def test_duration_shows_the_two_largest_units(seconds, text):
    assert numbers.duration(seconds).replace(numbers.NBSP, " ") == text


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (timedelta(seconds=4), "4 s ago"),
        (timedelta(minutes=21), "21 min ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(days=33), "15 Oct"),
        (timedelta(days=400), "13 Oct 2025"),
        (timedelta(minutes=-6), "in 6 min"),
    ],
)
def test_time_is_relative_for_a_day_and_then_a_date(back, text):
    now = datetime(2026, 11, 17, 10, 42, tzinfo=UTC)

    assert numbers.relative(now - back, now).replace(numbers.NBSP, " ") == text


def test_segments_keep_their_order_and_sum_to_the_rows():
    counts = {"waiting": 3, "found": 5, "failed": 2}

    parts = charts.segments(counts, charts.bar_labels(), is_live=True)

    assert [part.state for part in parts] == list(states.BAR_ORDER)
    assert sum(part.count for part in parts) == 10
    assert [part.slot.x for part in parts if part.count] == ["0.000%", "50.000%", "70.000%"]


def test_segments_drop_the_open_states_of_a_finished_job_unless_rows_are_left_in_them():
    done = charts.segments({"found": 5}, charts.bar_labels(), is_live=False)
    stuck = charts.segments({"found": 5, "waiting": 1}, charts.bar_labels(), is_live=False)

    assert [part.state for part in done][-1] == "uncertain"
    assert [part.state for part in stuck][-1] == "waiting"


def test_slots_draw_slivers_beside_each_other_and_inside_the_bar_at_its_end():
    middle = charts.slots([500_000, 1, 1, 500_000])
    end = charts.slots([999_998, 1, 1])

    assert [slot.is_sliver for slot in middle] == [False, True, True, False]
    assert middle[2].push - middle[1].push == charts.SLIVER_PX
    assert [slot.x for slot in end[1:]] == ["100%", "100%"]
    assert end[1].push < end[2].push < 0


def test_day_chart_stacks_to_the_sum_and_fits_the_cap():
    days = [{"label": "1 Nov", "values": [30, 10]}, {"label": "2 Nov", "values": [0, 0]}]

    chart = charts.day_chart(days, ["a", "b"], unit="credits", cap=50, cap_label="cap")

    tallest = chart.days[0].pieces[-1]
    assert chart.total == "40"
    assert chart.grid[-1][1] == "60"
    assert tallest.y == pytest.approx(
        charts.CHART_BASE - 40 / 60 * (charts.CHART_BASE - charts.CHART_TOP), abs=0.1
    )
    assert chart.cap is not None
    assert chart.cap[0] > charts.CHART_TOP
    assert chart.days[1].pieces == ()


def test_day_chart_keeps_bars_visible_under_a_cap_that_is_far_above():
    days = [{"label": "1 Nov", "values": [40]}]

    near, far = (
        charts.day_chart(days, ["a"], unit="credits", cap=cap, cap_label="cap") for cap in (200, 201)
    )

    assert near.cap is not None
    assert near.cap[1] == "cap"
    assert far.cap == (charts.CHART_TOP, "cap, far above")
    assert (
        far.days[0].pieces[0].height
        > charts.day_chart(days, ["a"], unit="credits").days[0].pieces[0].height - 1
    )


def test_day_chart_counts_things_in_whole_numbers():
    chart = charts.day_chart([{"label": "1 Nov", "values": [3]}], ["a"], unit="calls")

    assert [label for _, label in chart.grid] == ["0", "2", "4"]


def test_day_chart_marks_say_their_words_where_there_is_room_and_always_in_the_table():
    days = [
        {"label": str(n), "values": [1], "mark": f"change {n}" if n in (0, 2, 29) else ""} for n in range(30)
    ]

    marks = charts.day_chart(days, ["a"], unit="credits").marks
    html = render("{% day_chart days series %}", days=days, series=["a"])

    assert [(mark.words, mark.is_worded, mark.anchor) for mark in marks] == [
        ("change 0", True, "start"),
        ("change 2", False, "start"),
        ("change 29", True, "end"),
    ]
    assert "<td>change 2</td>" in html
    assert "<title>change 2</title>" in html


def test_day_chart_draws_nothing_without_days():
    assert "Nothing yet" in render("{% day_chart days series %}", days=[], series=["a"])


def test_stacked_bar_says_all_its_numbers_to_those_who_do_not_see_it():
    html = render("{% stacked_bar counts %}", counts={"found": 1200, "skipped": 3})

    assert 'role="img" aria-label="1,203 rows: 1,200 found, 3 skipped"' in html
    assert 'fill="url(#hatch)"' in html


def test_legend_uses_the_operations_words_and_links_each_count():
    html = render(
        "{% legend counts urls found='Deliverable' %}",
        counts={"found": 7, "waiting": 1},
        urls={"found": "?state=found"},
    )

    assert "Deliverable" in html
    assert '<a href="?state=found">' in html
    assert html.count("legend-item--zero") == 6


def test_state_shows_icon_and_word_and_does_not_hide_what_it_does_not_know():
    assert "Awaiting approval" in render("{% state 'job' 'awaiting_approval' %}")
    assert "On hold" in render("{% state 'job' 'on_hold' %}")
    assert "<svg" in render("{% state 'row' 'uncertain' %}")


@pytest.mark.parametrize("kind", states.KINDS)
def test_every_state_has_an_icon_that_exists(kind):
    for look in states.KINDS[kind].values():
        assert "<svg" in render("{% icon name %}", name=look.icon)


def test_icon_fails_loudly_when_it_does_not_exist():
    with pytest.raises(lucide.IconDoesNotExist):
        render("{% icon 'no-such-icon' %}")


def test_key_name_copies_as_the_whole_name_and_is_never_parsed():
    tagged = render("{% key_name 'prod_crm_sync_revops' 'prod' %}")
    other = render("{% key_name 'prod_crm_sync_revops' 'staging' %}")

    assert re.sub(r"<[^>]+>", "", tagged) == "prod_crm_sync_revops"
    assert 'class="env env--prod"' in tagged
    assert "env--" not in other
    assert re.sub(r"<[^>]+>", "", other) == "prod_crm_sync_revops"


def test_button_says_why_it_is_disabled_and_loses_its_address():
    html = render("{% button href='/x/' disabled=True reason='Key admins can: Mira' %}Revoke…{% endbutton %}")

    assert "Key admins can: Mira" in html
    assert 'aria-disabled="true"' in html
    assert "/x/" not in html


def test_button_turns_keywords_into_attributes_and_escapes_them():
    html = render("{% button type='submit' hx_post=url data_dialog='d' %}Go{% endbutton %}", url='/a?b="c"')

    assert 'hx-post="/a?b=&quot;c&quot;"' in html
    assert 'data-dialog="d"' in html
    assert 'type="submit"' in html


@pytest.mark.parametrize("name", ["style", "onclick", "hx_on_click", "hx-on:click"])
def test_attributes_refuse_what_the_policy_would_drop(name):
    with pytest.raises(ValueError, match="Content-Security-Policy"):
        attributes({name: "x"})


def test_field_ties_hint_and_error_to_its_control():
    html = render("{% field form.cap hint='A hint' %}", form=SampleForm({"cap": "x"}))

    assert 'aria-describedby="id_cap_helptext id_cap_error"' in html
    assert 'aria-invalid="true"' in html
    assert 'id="id_cap_helptext"' in html
    assert 'id="id_cap_error"' in html
    assert '<label for="id_cap">' in html


def test_field_says_optional_only_where_it_is():
    form = SampleForm()

    assert "optional" in render("{% field form.purpose %}", form=form)
    assert "optional" not in render("{% field form.cap %}", form=form)
    assert "optional up to 5 credits" in render(
        "{% field form.purpose optional='optional up to 5 credits' %}", form=form
    )


def test_field_groups_radio_buttons_under_a_legend():
    html = render("{% field form.delimiter %}", form=SampleForm({}))

    assert "<fieldset" in html
    assert "<legend>" in html
    assert 'aria-describedby="id_delimiter_error"' in html


def test_field_disables_what_is_locked_and_says_who_may():
    html = render("{% field form.environment locked='Only key admins change this.' %}", form=SampleForm())

    assert "disabled" in html
    assert "Only key admins change this." in html


def test_form_errors_are_silent_until_there_are_some():
    class Refusing(forms.Form):
        def clean(self):
            raise forms.ValidationError("Cap and budget contradict each other.")

    assert render("{% form_errors form %}", form=Refusing()) == ""
    assert 'role="alert"' in render("{% form_errors form %}", form=Refusing({}))


def test_components_escape_what_people_typed():
    evil = "<img src=x onerror=alert(1)>"
    for source in (
        "{% person evil %}",
        "{% state 'job' evil %}",
        "{% key_name evil %}",
        "{% sample evil %}",
        "{% banner 'warn' evil %}{{ evil }}{% endbanner %}",
        "{% chip evil value=evil remove=evil %}",
        "{% stat evil evil note=evil %}",
        "{% menu_item evil href=evil note=evil %}",
        "{% button %}{{ evil }}{% endbutton %}",
        "{% facts %}{% fact evil %}{{ evil }}{% endfact %}{% endfacts %}",
        "{% icon 'play' css=evil %}",
    ):
        assert "<img" not in render(source, evil=evil), source


def test_when_gives_the_exact_time_to_pointer_and_keyboard():
    html = render("{% when at 'clock' %}", at=datetime(2026, 3, 3, 10, 42, 7, tzinfo=UTC))

    assert 'datetime="2026-03-03T10:42:07Z"' in html
    assert 'data-exact="3 Mar 2026, 10:42:07 UTC"' in html
    assert 'tabindex="0"' in html
    assert "never through this app" in render("{% when None empty='never through this app' %}")


def test_pager_links_only_where_there_is_more():
    html = render("{% pager 'Rows 1 to 50' older='?after=50' %}")

    assert 'href="?after=50"' in html
    assert html.count('aria-disabled="true"') == 1


@pytest.mark.urls(__name__)
def test_styleguide_shows_every_component():
    html = render_to_string("styleguide.html", sample_context() | {"frame": {"nav": []}})

    assert "{%" not in html
    assert "{{" not in html
    for mark in (
        "bar",
        "legend",
        "chart",
        "spark",
        "meter",
        "wizard",
        "steps",
        "checklist",
        "timeline",
        "panel",
        "toast",
    ):
        assert f'class="{mark}' in html, mark


@pytest.mark.parametrize("name", ["500.html", "400.html", "403_csrf.html", "404.html", "403.html"])
def test_error_page_renders_without_any_context(name):
    html = render_to_string(name)

    assert "<h1" in html
    assert "Enrichment desk" in html


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: str(path.relative_to(ROOT)))
def test_template_has_nothing_that_the_policy_would_drop(path):
    text = re.sub(r"\{%.*?%\}", "", path.read_text())  # a tag's own arguments are no attributes

    assert not re.search(r"\sstyle\s*=", text)
    assert not re.search(r"\shx-on", text)
    assert not re.search(r"\son(click|change|submit|input|load|error|key\w+)\s*=", text)
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert "<style" not in text
    assert not re.search(r"hx-trigger=\"[^\"]*\[", text), "a trigger filter needs eval"
    assert not re.search(r"(src|href)=\"(https?:)?//", text), "every file comes from us"


def test_style_sheets_name_only_tokens_that_exist():
    sheets = {path.name: path.read_text() for path in (ROOT / "static" / "css").glob("*.css")}
    defined = set(re.findall(r"(--[\w-]+)\s*:", "\n".join(sheets.values())))

    for name, sheet in sheets.items():
        assert set(re.findall(r"var\((--[\w-]+)", sheet)) <= defined, name
        assert "@import" not in sheet
        assert not re.search(r"url\(\"?https?:", sheet)


def test_broken_page_gives_the_number_that_stands_in_the_log():
    html = render_to_string(
        "500.html", {"number": "500-7f3a-10c2", "at": datetime(2026, 11, 17, 10, 42, 7, tzinfo=UTC)}
    )

    assert "500-7f3a-10c2" in html
    assert "17 Nov 2026, 10:42:07 UTC" in html


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        ("0.02", 1, "0.02"),
        ("0.25", 1, "0.25"),
        ("0.125", 1, "0.125"),
        ("0.1", 1, "0.1"),
        ("12", 1, "12.0"),
        ("0.0004", 1, "0.0"),
        ("1200", None, "1,200"),
        ("0.02", None, "0.02"),
        ("61.6", 0, "62"),
        ("-0.02", 1, "-0.02"),
    ],
)
def test_credits_are_shown_to_the_thousandth_that_they_have(value, digits, shown):
    assert numbers.credits(Decimal(value), digits) == shown
