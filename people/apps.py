from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in


class PeopleConfig(AppConfig):
    name = "people"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """A log-in is a proof of who somebody is, whichever way it was made."""
        from people import proof  # settings must be loaded first

        user_logged_in.connect(proof.note_log_in, dispatch_uid="people.proof")
