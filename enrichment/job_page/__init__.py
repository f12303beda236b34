"""What a job's page says beyond plain figures, one room for each part of the page."""

from enrichment.job_page.address import Address, read_address
from enrichment.job_page.ending import UNFAMILIAR, advice_of, events, export_words, outcome
from enrichment.job_page.figures import is_layout_of, live, resume_of, words_of
from enrichment.job_page.receipt import panel, row_page
from enrichment.job_page.table import (
    chips,
    columns_of,
    credits_word,
    lines,
    note_of,
    pager,
    result_of,
    state_words,
    told_by,
)

__all__ = [
    "UNFAMILIAR",
    "Address",
    "advice_of",
    "chips",
    "columns_of",
    "credits_word",
    "events",
    "export_words",
    "is_layout_of",
    "lines",
    "live",
    "note_of",
    "outcome",
    "pager",
    "panel",
    "read_address",
    "result_of",
    "resume_of",
    "row_page",
    "state_words",
    "told_by",
    "words_of",
]
