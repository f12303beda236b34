import os
import resource

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured


class KeysConfig(AppConfig):
    name = "keys"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """The web process must not be able to read a provider secret: refuse to start when it could. A worker holds them in
        its memory: it leaves no image of that behind when it crashes."""
        from config.env import provider_secret_names  # settings must be loaded first
        from keys import checks  # noqa: F401  registers the system checks

        if settings.PROCESS_ROLE == "worker":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if settings.PROCESS_ROLE == "web":
            names = provider_secret_names(os.environ)
            if names:
                raise ImproperlyConfigured(
                    f"The web process has {', '.join(names)} in its environment. Provider secrets belong to workers "
                    "only: remove them here and put them into .env.worker or the worker's own environment."
                )
