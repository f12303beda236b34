from django.apps import AppConfig


class EnrichmentConfig(AppConfig):
    name = "enrichment"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # Not at the top: an app's module is read before any app is ready.
        from enrichment.operations import OPERATIONS
        from enrichment.selectors import visible_numbers
        from keys import job_links, scopes

        for operation in OPERATIONS.values():
            title = operation.scope_title or operation.label
            scopes.declare(
                scopes.Workload(operation.name, title, operation.scopes, operation.words, operation.series)
            )
        job_links.declare(visible_numbers)
