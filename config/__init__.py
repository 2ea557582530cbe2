"""Settings, URLs and process entry points. One settings file; environments differ by values (see config/env.py)."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
