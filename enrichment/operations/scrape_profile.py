"""Read profiles: the address of a person's page in, what the page says out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from enrichment import normal_forms
from enrichment.providers.icypeas.direct import Layout, read_profile

from .base import Checked, InputField, Operation, ResultColumn, Skipped
from .pages import check_page

PROFILE_FIELD = InputField(
    name="profile_url",
    label="Profile page",
    names=(
        "profile url",
        "profile page",
        "profile",
        "linkedin",
        "linkedin url",
        "linkedin profile",
        "linkedin profile url",
        "person linkedin url",
        "contact linkedin url",
        "li url",
        "icypeas profile url",
        "profil",
        "linkedin profil",
        "profil linkedin",
        "perfil",
        "perfil de linkedin",
        "profilo",
        "profilo linkedin",
        "profiel",
    ),
    is_required=True,
    hint="One address of a page a row, such as linkedin.com/in/…",
)


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with the address of a page that is not a company's is asked."""
    return check_page(fields, "profile_url", normal_forms.PERSON)


SCRAPE_PROFILE = Operation(
    name="scrape-profile",
    label="Read profiles",
    noun="profile read",
    sentence="Read job, company, place and skills from the profile pages of people.",
    icon="id-card",
    fields=(PROFILE_FIELD,),
    check=check,
    needs=(("profile_url",),),
    price=Decimal("1.5"),
    price_source="Two integrators' price lists of 2026",
    charged_when_empty=False,
    single_route="scrape-profile",
    bulk_route="scrape",
    direct_rows=50,
    result_columns=(
        ResultColumn("full_name", "Name"),
        ResultColumn("first_name", "First name"),
        ResultColumn("last_name", "Last name"),
        ResultColumn("headline", "Headline"),
        ResultColumn("job_title", "Job title"),
        ResultColumn("company", "Company"),
        ResultColumn("since", "There since"),
        ResultColumn("location", "Place"),
        ResultColumn("country", "Country"),
        ResultColumn("connections", "Connections"),
        ResultColumn("skills", "Skills"),
        ResultColumn("languages", "Languages"),
        ResultColumn("email", "Email on the page"),
        ResultColumn("profile_url", "Profile page"),
    ),
    wire=Layout(
        one=lambda row: {"url": row.get("profile_url", "")},
        many=lambda rows: {"type": "profile", "data": [row.get("profile_url", "") for row in rows]},
        read=read_profile,
        takes_user=True,
    ),
    scopes={
        "scrape-profile:single": "read one person's profile",
        "scrape-profile:bulk": "read a list of profiles",
    },
    words=("read", "profile", "profiles"),
    series="Person profiles",
    place=7,
    good_verdicts=("found",),
    answer_column="full_name",
    answer_noun="profile",
    first_hit_rate=Decimal("0.8"),
    look_up_label="Read a profile",
    verb="Read",
)
