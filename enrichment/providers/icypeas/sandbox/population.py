"""People and companies that the sandbox knows: invented, and always the same for the same address of a page.

A page's last path part is its slug. Name and all else follow from it, so that whoever is found by a search, by an
address or in a list of leads is the same when their page is read.
"""

from __future__ import annotations

import functools
import random
import re
import unicodedata
import zlib
from dataclasses import dataclass
from typing import Any, Final

from faker import Faker

COMPANIES: Final = 400
PEOPLE: Final = 4_000

_TITLES: Final = (
    ("Head of Marketing", "VP Marketing", "Marketing Manager", "Growth Lead", "Content Manager"),
    ("Head of Sales", "Account Executive", "Sales Development Representative", "VP Sales", "Key Account Manager"),
    ("Revenue Operations Manager", "Sales Operations Analyst", "CRM Manager", "Head of Revenue Operations"),
    ("Software Engineer", "Engineering Manager", "Data Engineer", "CTO", "Platform Engineer"),
    ("Managing Director", "Founder", "COO", "CFO", "Head of Procurement", "HR Business Partner"),
)  # fmt: skip
_SKILLS: Final = (
    "Negotiation",
    "SQL",
    "Salesforce",
    "HubSpot",
    "Python",
    "Copywriting",
    "Forecasting",
    "Hiring",
)
_LANGUAGES: Final = ("English", "German", "French", "Spanish", "Italian", "Polish", "Dutch")
_INDUSTRIES: Final = (
    "Software Development",
    "IT Services and IT Consulting",
    "Machinery Manufacturing",
    "Financial Services",
    "Hospitals and Health Care",
    "Advertising Services",
    "Logistics and Supply Chain",
    "Retail",
    "Construction",
    "Technology, Information and Internet",
)
_TYPES: Final = (
    "Privately Held",
    "Public Company",
    "Sole Proprietorship",
    "Self-Employed",
    "Partnership",
    "Nonprofit",
    "Educational Institution",
    "Government Agency",
)
# Country code and name, region, city, and the locale whose names are common there.
_PLACES: Final = (
    ("FR", "France", "Île-de-France", "Paris", "fr_FR"),
    ("FR", "France", "Auvergne-Rhône-Alpes", "Lyon", "fr_FR"),
    ("DE", "Germany", "Berlin", "Berlin", "de_DE"),
    ("DE", "Germany", "Bavaria", "Munich", "de_DE"),
    ("GB", "United Kingdom", "England", "London", "en_GB"),
    ("GB", "United Kingdom", "Scotland", "Edinburgh", "en_GB"),
    ("ES", "Spain", "Catalonia", "Barcelona", "es_ES"),
    ("IT", "Italy", "Lombardy", "Milan", "it_IT"),
    ("NL", "Netherlands", "North Holland", "Amsterdam", "nl_NL"),
    ("PL", "Poland", "Masovia", "Warsaw", "pl_PL"),
    ("US", "United States", "California", "San Francisco", "en_US"),
    ("US", "United States", "New York", "New York", "en_US"),
)
_MAKERS: Final = {locale: Faker(locale) for locale in {place[4] for place in _PLACES}}


@dataclass(frozen=True)
class Company:
    slug: str
    name: str
    domain: str
    industry: str
    type: str
    employees: int
    growth: int  # percent in six months
    revenue_millions: int
    founded: int
    place: tuple[str, str, str, str, str]
    description: str

    @property
    def url(self) -> str:
        return f"https://www.linkedin.com/company/{self.slug}"


@dataclass(frozen=True)
class Person:
    slug: str
    first_name: str
    last_name: str
    title: str
    past_title: str
    company: Company
    past_company: Company
    place: tuple[str, str, str, str, str]
    skills: tuple[str, ...]
    languages: tuple[str, ...]
    since: int
    connections: int

    @property
    def url(self) -> str:
        return f"https://www.linkedin.com/in/{self.slug}"

    @property
    def headline(self) -> str:
        return f"{self.title} at {self.company.name}"


def slug_of(url: str) -> str:
    """The last part of the path of a page's address."""
    return url.strip().rstrip("/").split("?")[0].rsplit("/", 1)[-1].lower()


def _seed(kind: str, slug: str) -> int:
    return zlib.crc32(f"{kind}\x1f{slug}".encode())


def _title(slug: str) -> str:
    """`anna-roux-000123` → `Anna Roux`."""
    words = [word for word in slug.split("-") if word and not word.isdigit()]
    return " ".join(word.capitalize() for word in words) or "Someone"


@functools.lru_cache(maxsize=5_000)
def make_company(slug: str) -> Company:
    lot = random.Random(_seed("company", slug))
    place = lot.choice(_PLACES)
    employees = lot.choice((3, 8, 19, 42, 75, 130, 260, 540, 1_100, 4_800))
    employees += lot.randrange(max(employees // 4, 1))
    industry = lot.choice(_INDUSTRIES)
    maker = Faker("en_GB")
    maker.seed_instance(lot.randrange(2**32))
    return Company(
        slug=slug,
        name=_title(slug),
        domain=f"{slug}.example",
        industry=industry,
        type=_TYPES[0] if lot.random() < 0.6 else lot.choice(_TYPES),
        employees=employees,
        growth=lot.randrange(-12, 48),
        revenue_millions=max(1, employees // lot.randrange(6, 14)),
        founded=lot.randrange(1921, 2024),
        place=place,
        description=f"{maker.catch_phrase()}. {industry} from {place[3]}.",
    )


@functools.lru_cache(maxsize=10_000)
def make_person(slug: str) -> Person:
    lot = random.Random(_seed("person", slug))
    first, _, last = _title(slug).partition(" ")
    company, past_company = (make_company(lot.choice(company_slugs())) for _ in range(2))
    field = lot.choice(_TITLES)
    return Person(
        slug=slug,
        first_name=first,
        last_name=last,
        title=lot.choice(field),
        past_title=lot.choice(field),
        company=company,
        past_company=past_company,
        place=company.place if lot.random() < 0.8 else lot.choice(_PLACES),
        skills=tuple(lot.sample(_SKILLS, 3)),
        languages=tuple(dict.fromkeys(("English", lot.choice(_LANGUAGES)))),
        since=lot.randrange(2009, 2025),
        connections=lot.randrange(20, 501),
    )


@functools.cache
def company_slugs() -> tuple[str, ...]:
    """Every company that lists of leads know."""
    maker = Faker("en_GB")
    maker.seed_instance(20_24)
    names = (re.sub(r"[^a-z]+", "-", maker.company().lower()).strip("-") for _ in range(COMPANIES * 2))
    return tuple(dict.fromkeys(names))[:COMPANIES]


def _fold(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.replace("ł", "l").replace("ß", "ss")).encode("ascii", "ignore")
    return re.sub(r"[^a-z]+", "-", plain.decode().lower()).strip("-") or "x"


@functools.cache
def people() -> tuple[Person, ...]:
    """Everybody that lists of leads know."""
    lot = random.Random(2_024)
    found = []
    for number in range(PEOPLE):
        maker = _MAKERS[lot.choice(_PLACES)[4]]
        maker.seed_instance(number)
        found.append(make_person(f"{_fold(maker.first_name())}-{_fold(maker.last_name())}-{number:06d}"))
    return tuple(found)


@functools.cache
def companies() -> tuple[Company, ...]:
    return tuple(map(make_company, company_slugs()))


# --- In the vendor's layout ------------------------------------------------------------------------------


def _address(place: tuple[str, str, str, str, str]) -> dict[str, str]:
    code, country, region, city, _ = place
    return {
        "streetAddress": "",
        "addressLocality": city,
        "addressRegion": region,
        "postalCode": "",
        "addressCountry": country,
        "addressCountryCode": code,
    }


def _one_line(place: tuple[str, str, str, str, str]) -> str:
    return ", ".join(dict.fromkeys((place[3], place[2], place[1])))


def number_of(slug: str) -> str:
    return str(_seed("id", slug))


def _revenue(company: Company) -> dict[str, Any]:
    def amount(millions: float) -> dict[str, Any]:
        return {"amount": millions, "unit": "MILLION", "currency": "USD"}

    return {
        "estimatedMinRevenue": amount(company.revenue_millions),
        "estimatedMaxRevenue": amount(company.revenue_millions * 2.5),
    }


def company_page(slug: str) -> dict[str, Any]:
    """What reading the page of a company answers."""
    company = make_company(slug)
    return {
        "id": number_of(slug),
        "name": company.name,
        "url": company.url,
        "urn": number_of(slug),
        "lid": slug,
        "website": f"https://www.{company.domain}",
        "slogan": "",
        "industry": company.industry,
        "type": company.type,
        "description": company.description,
        "pictureUrl": "",
        "deleted": False,
        "specialties": [{"value": word} for word in company.industry.split(" and ")],
        "numberOfEmployees": company.employees,
        # The vendor's table says number, its sample is a text: both occur.
        "foundedYear": str(company.founded) if company.founded % 2 else company.founded,
        "address": _address(company.place),
        "estimatedRevenuRange": _revenue(company),
        "employeeGrowth": [{"percentage": company.growth, "timespan": "SIX_MONTHS"}],
    }


def profile_page(slug: str) -> dict[str, Any]:
    """What reading the page of a person answers."""
    person = make_person(slug)

    def job(company: Company, title: str, since: int, until: str = "") -> dict[str, Any]:
        return {
            "name": company.name,
            "location": company.place[3],
            "lid": company.slug,
            "urn": number_of(company.slug),
            "startDate": f"{since}-03-01",
            "endDate": until,
            "description": "",
            "jobTitle": title,
        }

    return {
        "id": number_of(slug),
        "firstname": person.first_name,
        "lastname": person.last_name,
        "headline": person.headline,
        "url": person.url,
        "lid": slug,
        "description": "",
        "numOfConnections": person.connections,
        "openProfile": False,
        "deleted": False,
        "linkedinEmail": "",
        "ContactInfo": {"phoneNumber": "", "linkedinEmail": ""},
        "skills": [{"value": skill} for skill in person.skills],
        "languages": [{"value": language, "norm": language[:2].upper()} for language in person.languages],
        "address": _address(person.place),
        "educations": [],
        "worksFor": [job(person.company, person.title, person.since)],
        "alumniOf": [job(person.past_company, person.past_title, person.since - 4, f"{person.since}-02-28")],
        "volunteeringExperiences": [],
    }


def person_lead(person: Person) -> dict[str, Any]:
    """A person in a list of leads. There is no e-mail in it."""
    company = person.company
    return {
        "firstname": person.first_name,
        "lastname": person.last_name,
        "headline": person.headline,
        "description": None,
        "profileUrl": person.url,
        "lastJobTitle": person.title,
        "lastJobDescription": None,
        "lastJobStartDate": f"{person.since}-03-01",
        "address": _one_line(person.place),
        "lastCompanyName": company.name,
        "lastCompanyUrn": number_of(company.slug),
        "lastCompanyUrl": company.url,
        "lastCompanyWebsite": f"https://www.{company.domain}",
        "lastCompanyDescription": company.description,
        "lastCompanySize": company.employees,
        "lastCompanyIndustry": company.industry,
        "lastCompanyAddress": _one_line(company.place),
    }


def company_lead(company: Company) -> dict[str, Any]:
    """A company in a list of leads."""
    return {
        "name": company.name,
        "description": company.description,
        "url": company.url,
        "address": _one_line(company.place),
        "website": f"https://www.{company.domain}",
        "industry": company.industry,
        "numberOfEmployees": company.employees,
        "estimatedRevenuRange": _revenue(company),
    }
