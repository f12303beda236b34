"""Addresses of the enrichment app: overview, jobs from draft to receipt, look-up."""

from django.urls import path

from enrichment.views import (
    hooks,
    job_continue,
    job_create,
    job_detail,
    job_list,
    job_retry,
    job_uncertain,
    leads,
    lookup,
    overview,
    prices,
    spend,
)

app_name = "enrichment"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("jobs/", job_list.job_list, name="job_list"),
    path("jobs/new/", job_create.job_new, name="job_new"),
    path("jobs/new/<slug:operation>/", job_create.job_upload, name="job_upload"),
    path("jobs/<int:number>/review/", job_create.job_review, name="job_review"),
    path("jobs/<int:number>/balance/", job_create.job_balance, name="job_balance"),
    path("jobs/<int:number>/start/", job_create.job_start, name="job_start"),
    path("jobs/<int:number>/discard/", job_create.job_discard, name="job_discard"),
    path("jobs/<int:number>/skipped.csv", job_create.job_skipped, name="job_skipped"),
    path("jobs/<int:number>/", job_detail.job_detail, name="job_detail"),
    path("jobs/<int:number>/progress/", job_detail.job_progress, name="job_progress"),
    path("jobs/<int:number>/rows/", job_detail.job_rows, name="job_rows"),
    path("jobs/<int:number>/rows/<int:position>/", job_detail.job_row, name="job_row"),
    path("jobs/<int:number>/pause/", job_detail.job_pause, name="job_pause"),
    path("jobs/<int:number>/resume/", job_detail.job_resume, name="job_resume"),
    path("jobs/<int:number>/cancel/", job_detail.job_cancel, name="job_cancel"),
    path("jobs/<int:number>/uncertain/", job_uncertain.job_uncertain, name="job_uncertain"),
    path("jobs/<int:number>/retry/", job_retry.job_retry, name="job_retry"),
    path("jobs/<int:number>/rows/<int:position>/correct/", job_retry.job_correct, name="job_correct"),
    path("jobs/<int:number>/continue/", job_continue.job_continue, name="job_continue"),
    path("jobs/<int:number>/export/", job_detail.job_export, name="job_export"),
    path("jobs/<int:number>/raw/<int:position>/", job_detail.row_raw, name="row_raw"),
    path("hooks/icypeas/<slug:token>/", hooks.hook, name="hook"),
    path("spend/", spend.spend, name="spend"),
    path("spend/budget/", spend.budget_set, name="budget_set"),
    path("prices/", prices.price_list, name="price_list"),
    path("prices/enter/", prices.price_enter, name="price_enter"),
    path("leads/", leads.leads, name="leads"),
    path("leads/<slug:operation>/", leads.search, name="lead_search"),
    path("leads/<slug:operation>/count/", leads.count, name="lead_count"),
    path("leads/<slug:operation>/count/<int:number>/", leads.counted, name="lead_counted"),
    path("lookup/", lookup.lookup, name="lookup"),
    path("lookup/answer/<int:number>/", lookup.lookup_answer, name="lookup_answer"),
    path("lookup/<slug:operation>/", lookup.lookup_form, name="lookup_form"),
]
