"""Wiring. The Celery app is made with the package, so that every process that sends a wake-up knows its broker."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
