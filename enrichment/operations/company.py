"""What several operations ask about a company: its domain or its name, in two fields of which one is enough."""

from __future__ import annotations

from collections.abc import Mapping

from enrichment import normal_forms

from .base import InputField, Skipped, Warning_, short

FREE_MAIL_DOMAIN = "free_mail_domain"
LINK_PAGE = "link_page"
UNREADABLE_DOMAIN = "unreadable_domain"
NO_COMPANY = Skipped("no_company", "There is neither a company nor a domain in this row.")

COMPANY_FIELDS = (
    InputField(
        name="domain",
        label="Domain or website",
        names=(
            "domain",
            "company domain",
            "domain name",
            "email domain",
            "website",
            "web site",
            "website url",
            "company website",
            "company url",
            "web",
            "webpage",
            "homepage",
            "url",
            "site",
            "webseite",
            "internetseite",
            "internetadresse",
            "domäne",
            "domaine",
            "site web",
            "site internet",
            "dominio",
            "sitio web",
            "página web",
            "sito",
            "sito web",
            "domein",
            "bedrijfswebsite",
        ),
        hint=(
            "Gives better results than the company's name, and wins where a row has both, unless it is that of a free-mail "
            "provider or of a site with pages about companies."
        ),
    ),
    InputField(
        name="company",
        label="Company name",
        names=(
            "company",
            "company name",
            "account",
            "account name",
            "organisation",
            "organization",
            "organisation name",
            "organization name",
            "employer",
            "business name",
            "firma",
            "firmenname",
            "unternehmen",
            "arbeitgeber",
            "société",
            "entreprise",
            "nom de l'entreprise",
            "raison sociale",
            "empresa",
            "compañía",
            "nombre de la empresa",
            "azienda",
            "società",
            "ragione sociale",
            "bedrijf",
            "bedrijfsnaam",
            "organisatie",
        ),
        hint="Used where a row has no domain of the company's own.",
    ),
)


def company_of(values: Mapping[str, str]) -> tuple[str, str | None]:
    """What is asked, and the domain when that is one: the domain wins over the name, unless it is not the company's own.
    Values are cleaned texts."""
    domain = normal_forms.domain(values["domain"]) if values["domain"] else None
    site = normal_forms.website(values["company"])  # in the column of names
    name = site or values["company"]
    if domain and name and _foreign(domain):
        return name, domain
    return domain or name or values["domain"], domain or (None if values["domain"] else site)


def _foreign(domain: str) -> tuple[str, str] | None:
    """The warning of a domain that cannot be the company's own, as code and words; None for any other."""
    registered = normal_forms.registered_domain(domain)
    if registered in normal_forms.FREE_MAIL_DOMAINS:
        return FREE_MAIL_DOMAIN, f"{domain} is a free-mail provider, not the company's domain"
    if registered in normal_forms.LINK_PAGE_DOMAINS:
        return LINK_PAGE, f"{domain} is a site with pages about companies, not the company's domain"
    return None


def company_warnings(values: Mapping[str, str], domain: str | None) -> list[Warning_]:
    """What looks odd about the company of a row that is asked all the same."""
    instead = "the company's name is asked instead"
    if domain and (foreign := _foreign(domain)):
        code, words = foreign
        return [Warning_(code, f"{words}, so {instead}." if values["company"] else f"{words}.")]
    if values["domain"] and not domain:
        used = instead if values["company"] else "it is asked as a company's name"
        text = f"“{short(values['domain'])}” is not a domain, so {used}."
        return [Warning_(UNREADABLE_DOMAIN, text)]
    return []
