import pytest

from enrichment.providers.icypeas.routes import ROUTES, interval_s


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("items-read", 2.5),
        ("files-read", 5.0),
        ("bulk-search", 1.25),
        ("email-search", 0.125),
        ("email-verification", 0.125),
        ("domain-search", 0.125),
        ("scrape", 0.0625),
    ],
)
def test_interval_keeps_a_fifth_of_the_documented_limit_free(name, seconds):
    assert interval_s(ROUTES[name]) == pytest.approx(seconds)


def test_interval_follows_another_share():
    assert interval_s(ROUTES["items-read"], share=0.5) == pytest.approx(4.0)


@pytest.mark.parametrize("route", [route for route in ROUTES.values() if route.catch_up])
def test_late_slots_leave_half_of_the_safety_margin(route):
    margin = route.limit_calls - route.limit_window_s / interval_s(route)
    at_the_edge = 1  # a window that begins with a call has one more than its slots

    assert at_the_edge + route.catch_up <= margin / 2


def test_routes_are_the_documented_paths_without_the_sync_ones():
    paths = {f"{route.method} {route.path}" for route in ROUTES.values()}

    assert paths == {
        "POST /email-search",
        "POST /email-verification",
        "POST /domain-search",
        "POST /bulk-search",
        "POST /bulk-single-searchs/read",
        "POST /search-files/read",
        "POST /url-search/profile",
        "POST /url-search/company",
        "POST /url-search",
        "POST /reverse-email-lookup",
        "POST /reverse-email-lookups",
        "GET /scrape/profile",
        "GET /scrape/company",
        "POST /scrape",
        "POST /find-people/count",
        "POST /find-people",
        "POST /find-companies/count",
        "POST /find-companies",
        "POST /a/actions/subscription-information",
    }


def test_routes_are_free_only_where_the_provider_says_so():
    assert {name for name, route in ROUTES.items() if not route.is_paid} == {
        "items-read",
        "files-read",
        "find-people-count",
        "find-companies-count",
        "subscription-information",
    }
