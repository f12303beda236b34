"""What reading a page asks for: the address of a person's or a company's profile page."""

from __future__ import annotations

from collections.abc import Mapping

from enrichment import normal_forms

from .base import Checked, Skipped, Warning_, short

NO_PAGE = "no_page"
BAD_PAGE = "bad_page"
WRONG_PAGE = "wrong_page"
OTHER_SITE = "other_site"

_WORDS = {normal_forms.PERSON: "a person's", normal_forms.COMPANY: "a company's"}


def check_page(fields: Mapping[str, str], name: str, wanted: str) -> Checked | Skipped:
    """A row whose field `name` holds the address of a page is asked, unless the address says that the page is the other
    kind's. Pages on other sites than LinkedIn are asked with a warning: Icypeas documents no other."""
    value = normal_forms.text(fields.get(name, ""))
    if not value:
        return Skipped(NO_PAGE, "There is no address of a page in this row.")
    page = normal_forms.page(value)
    if page is None:
        return Skipped(BAD_PAGE, f"“{short(value)}” is not the address of a page.")
    kind = normal_forms.kind_of_page(page)
    if kind and kind != wanted:
        return Skipped(WRONG_PAGE, f"This is {_WORDS[kind]} page, and {_WORDS[wanted]} page is wanted.")
    warnings: tuple[Warning_, ...] = ()
    if not kind:
        warnings = (
            Warning_(OTHER_SITE, f"“{short(page)}” does not look like {_WORDS[wanted]} page on LinkedIn."),
        )
    return Checked({name: page}, warnings)
