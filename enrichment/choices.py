"""The state tables of jobs, rows and batches, written once: database, bars, exports and pages use these."""

from django.db import models


class JobState(models.TextChoices):
    DRAFT = "draft", "Draft"
    QUEUED = "queued", "Queued"
    RUNNING = "running", "Running"
    PAUSED = "paused", "Paused"
    CANCELLING = "cancelling", "Cancelling"
    CANCELLED = "cancelled", "Cancelled"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"


TERMINAL = (JobState.CANCELLED, JobState.COMPLETED, JobState.FAILED)
ACTIVE = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING)
# States in which a worker still has something to do for the job.
WORKED_ON = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED, JobState.CANCELLING)


class PauseReason(models.TextChoices):
    """Why a job is paused; each has its own sentence and its own way to go on."""

    NONE = "", ""
    PERSON = "person", "paused by a person"
    CREDITS = "credits", "credits ran out"
    KEY = "key", "the key was refused"
    POLICY = "policy", "our own rules refused it"
    PROVIDER = "provider", "Icypeas refused in a way we do not know"
    SAMPLE = "sample", "the sample is done"


# With these, asking Icypeas again would only repeat the refusal: nothing is read either until a person resumes.
SILENT_PAUSES = (PauseReason.KEY, PauseReason.PROVIDER)


class RowState(models.TextChoices):
    """The eight states of the bar, in its order. They sum to the rows.

    A row answered without a new charge (known answer, duplicate) is CACHED here and exports its real verdict.
    """

    FOUND = "found", "Found"
    NOT_FOUND = "not_found", "Not found"
    CACHED = "cached", "Cached"
    SKIPPED = "skipped", "Skipped"
    FAILED = "failed", "Failed"
    UNCERTAIN = "uncertain", "Uncertain"
    IN_FLIGHT = "in_flight", "In flight"
    WAITING = "waiting", "Waiting"


OPEN_ROWS = (RowState.IN_FLIGHT, RowState.WAITING)
ANSWERED_ROWS = (RowState.FOUND, RowState.NOT_FOUND, RowState.CACHED)


class BatchState(models.TextChoices):
    """READY → SENDING → SENT → COLLECTING → DONE, or SENDING → DOUBT → SENT | UNCERTAIN, or REFUSED.

    READY       formed, nothing sent; may be dissolved
    SENDING     the intent is committed; if its lease ends, nobody knows whether it arrived: look it up
    DOUBT       a send without an answer; looked up, never sent again
    SENT        Icypeas gave an id; its progress is read
    COLLECTING  finished at Icypeas; answers are being fetched
    DONE        every question has its answer
    UNCERTAIN   looked up twice after the settle time and not seen, or ended in a way that we do not know; a person decides
    REFUSED     definitely not accepted; nothing was charged
    ACCEPTED    was uncertain, and a person (or the end of the time for it) has it counted as paid
    """

    READY = "ready", "Ready"
    SENDING = "sending", "Sending"
    DOUBT = "doubt", "In doubt"
    SENT = "sent", "At Icypeas"
    COLLECTING = "collecting", "Collecting"
    DONE = "done", "Done"
    UNCERTAIN = "uncertain", "Uncertain"
    REFUSED = "refused", "Refused"
    ACCEPTED = "accepted", "Accepted as paid"


UNSETTLED_BATCHES = (BatchState.SENDING, BatchState.DOUBT, BatchState.SENT, BatchState.COLLECTING)


class HookState(models.TextChoices):
    """What became of a webhook. EARLY ones are signed and name nothing of ours yet; UNKNOWN ones name nothing of ours, or
    nothing that is still awaited."""

    WAITING = "waiting", "Waiting"
    EARLY = "early", "Early"
    HEEDED = "heeded", "Heeded"
    UNKNOWN = "unknown", "Unknown"
    FORGED = "forged", "Forged"


class Mode(models.TextChoices):
    """How a job asks, and how a batch travels. DIRECT is a batch's alone: its call brings the answers itself, and nothing
    at Icypeas tells afterwards whether it arrived."""

    BULK = "bulk", "list"
    SINGLE = "single", "one form"
    DIRECT = "direct", "answered in the call"


class Source(models.TextChoices):
    BROWSER = "browser", "Browser"
    TERMINAL = "terminal", "Terminal"
    LOOKUP = "lookup", "Look-up"
    DEMO = "demo", "Demo"
