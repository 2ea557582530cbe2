"""The web server's entry point."""

import gc
import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

application = get_wsgi_application()

# What a start makes stays. Python would look through all of it for garbage again and again, up to 100 ms in one request.
import_module("config.urls")  # and with it every view
gc.collect()
gc.freeze()
gc.set_threshold(5_000, 20, 50)  # a page makes thousands of objects at once, hardly any of them such garbage
