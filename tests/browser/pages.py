"""Every page of the demo, by name and role: what is photographed and what is searched for violations."""

from __future__ import annotations

from dataclasses import dataclass

from tests.browser.desk import Desk


@dataclass(frozen=True)
class Shot:
    """One page as one role sees it. `role` "" is nobody."""

    name: str
    path: str
    role: str = "Operator"
    status: int = 200


def pages_of(desk: Desk) -> list[Shot]:
    """The pages of the seeded demo; numbers of jobs come from its database."""
    finished = desk.query(
        "SELECT max(id) FROM enrichment_enrichmentjob WHERE state = 'completed' AND mode = 'bulk'"
    )[0][0]
    search = desk.query(  # with a skipped row: journeys before this may have made others
        "SELECT max(j.id) FROM enrichment_enrichmentjob j JOIN enrichment_enrichmentrow r ON r.job_id = j.id "
        "WHERE j.state = 'completed' AND j.operation = 'email-search' AND j.mode = 'bulk' AND r.state = 'skipped'"
    )[0][0]
    skipped = desk.query(
        "SELECT min(position) FROM enrichment_enrichmentrow WHERE state = 'skipped' AND job_id = ?", search
    )[0][0]
    ana = desk.query("SELECT id FROM people_user WHERE email LIKE 'ana@%'")[0][0]
    draft = desk.query("SELECT max(id) FROM enrichment_enrichmentjob WHERE state = 'draft'")[0][0]
    scope = desk.query(
        "SELECT f.id FROM keys_finding f JOIN keys_keyrecord k ON k.id = f.key_id "
        "WHERE f.code = 'scope' AND k.name = 'sandbox_bulk_verify_growth'"
    )[0][0]
    bad = desk.query(
        "SELECT job_id, min(position) FROM enrichment_enrichmentrow r JOIN enrichment_enrichmentjob j ON j.id = r.job_id "
        "WHERE j.state = 'draft' AND r.state = 'skipped' GROUP BY job_id ORDER BY job_id DESC"
    )[0]
    return [
        Shot("login", "/login/", ""),
        Shot("overview", "/"),
        Shot("jobs", "/jobs/", "Manager"),
        Shot("jobs-no-match", "/jobs/?search=nothing-like-this"),
        Shot("job-new", "/jobs/new/"),
        Shot("job-upload", "/jobs/new/email-search/"),
        Shot("job-review", f"/jobs/{draft}/review/"),
        Shot("job-review-correct", f"/jobs/{bad[0]}/rows/{bad[1]}/correct/"),
        Shot("job-finished", f"/jobs/{search}/"),
        Shot("job-finished-verify", f"/jobs/{finished}/", "Manager"),
        Shot("job-filtered", f"/jobs/{search}/?state=found&row=1"),
        Shot("job-receipt", f"/jobs/{search}/rows/1/"),
        Shot("job-retry", f"/jobs/{search}/retry/"),
        Shot("job-correct", f"/jobs/{search}/rows/{skipped}/correct/"),
        Shot("lookup-search", "/lookup/email-search/"),
        Shot("lookup-verify", "/lookup/email-verification/"),
        Shot("lookup-company-page", "/lookup/scrape-company/"),
        Shot("leads", "/leads/find-people/"),
        Shot("leads-companies", "/leads/find-companies/?location=FR&headcount_from=50"),
        Shot("job-continue", f"/jobs/{search}/continue/"),
        Shot("spend", "/spend/", "Manager"),
        Shot("spend-operator", "/spend/"),
        Shot("prices", "/prices/", "Manager"),
        Shot("price-enter", "/prices/enter/", "Manager"),
        Shot("budget-set", "/spend/budget/", "Manager"),
        Shot("keys", "/keys/", "Key admin"),
        Shot("keys-viewer", "/keys/", "Viewer"),
        Shot("key", "/keys/sandbox_list_building_revops/", "Key admin"),
        Shot("key-chart", "/keys/sandbox_list_building_revops/?chart=calls", "Key admin"),
        Shot("key-calls", "/keys/sandbox_list_building_revops/calls/", "Key admin"),
        Shot("key-calls-none", "/keys/sandbox_list_building_revops/calls/?outcome=vendor_401", "Key admin"),
        Shot("key-draft", "/keys/prod_webinar_import_growth/", "Key admin"),
        Shot("key-new", "/keys/new/", "Key admin"),
        Shot("key-edit", "/keys/prod_crm_sync_revops/edit/", "Key admin"),
        Shot("key-rename", "/keys/prod_crm_sync_revops/rename/", "Key admin"),
        Shot("key-renew", "/keys/prod_crm_sync_revops/renew/", "Key admin"),
        Shot("key-quarantine", "/keys/prod_crm_sync_revops/quarantine/", "Key admin"),
        Shot("key-revoke", "/keys/prod_crm_sync_revops/revoke/", "Key admin"),
        Shot("keys-hand-over", "/keys/owner/?environment=prod&all=yes", "Key admin"),
        Shot("key-test", "/keys/sandbox_training_revops/test/", "Key admin"),
        Shot("findings", "/keys/findings/", "Key admin"),
        Shot("findings-viewer", "/keys/findings/?view=excepted", "Viewer"),
        Shot("finding-except", f"/keys/sandbox_bulk_verify_growth/findings/{scope}/except/", "Key admin"),
        Shot("scopes-remove", f"/keys/sandbox_bulk_verify_growth/findings/{scope}/scopes/", "Key admin"),
        Shot("notices", "/notices/", "Key admin"),
        Shot("people", "/people/", "Viewer"),
        Shot("people-manager", "/people/", "Manager"),
        Shot("person", f"/people/{ana}/", "Manager"),
        Shot("person-disable", f"/people/{ana}/access/", "Manager"),
        Shot("activity", "/activity/", "Manager"),
        Shot("help", "/help/"),
        Shot("styleguide", "/styleguide/", "Manager"),
        Shot("forbidden", "/activity/", "Operator", 403),
        Shot("not-found", "/jobs/999999/", "Operator", 404),
    ]
