import os

from django.apps import AppConfig
from django.core import checks

from apps.demo import safety
from apps.demo.company.accounts import REGION


class DemoConfig(AppConfig):
    name = "apps.demo"

    def ready(self) -> None:
        safety.keep_to_this_machine(os.environ, region=REGION)
        checks.register(safety.check)
