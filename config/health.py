"""`/healthz`: is this process able to serve? For load balancers, container health checks and `make demo`."""

from collections.abc import Callable

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis import Redis


def _ask_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ask_broker() -> None:
    with Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2) as broker:
        broker.ping()


CHECKS: dict[str, Callable[[], None]] = {"web": lambda: None, "database": _ask_database, "broker": _ask_broker}


@login_not_required
@never_cache
@require_safe
def healthz(_request: HttpRequest) -> JsonResponse:
    """200 when web, database and broker are well, else 503; the answer names which, and nothing about where or why."""
    states = {name: _is_well(check) for name, check in CHECKS.items()}
    body = {name: "well" if is_well else "down" for name, is_well in states.items()}
    return JsonResponse(body, status=200 if all(states.values()) else 503)


def _is_well(check: Callable[[], None]) -> bool:
    try:
        check()
    except Exception:  # noqa: BLE001  any failure means the same to whoever asks
        return False
    return True
