"""How long the server takes for the inventory's pages: `python -m benchmarks.pages [assignments] [--keep DIRECTORY]`.

By default with 100,000 open assignments; 1,000,000 is the design size (`benchmarks.rows` says what is in it). Each
page is asked for as an administrator and, where a manager has it, as somebody with 200 reports and hundreds of machines.
Server time is from the request to the whole answer inside this process, middleware and templates included, without the
network. The limit of 100 ms for the 95th of 100 requests holds at every size; queries are counted. `--keep` keeps the
database in that directory and uses it again, so that a page can be measured anew without making the company anew.
"""

import argparse
import html
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from benchmarks.portal import portal

ASSIGNMENTS = 100_000
LIMIT = 0.1  # seconds of server time, 95th of 100
REQUESTS = 20
WARM = 3  # requests that load what is loaded once


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("assignments", nargs="?", type=int, default=ASSIGNMENTS)
    arguments.add_argument("--keep", type=Path, help="where to keep the database")
    arguments.add_argument("--only", default="", help="pages whose name contains this")
    chosen = arguments.parse_args()
    with portal(chosen.keep, DATABASE_POOL="1", ALLOWED_HOSTS="testserver", STATIC_FROM_SOURCE="1"):
        measured = _measure(chosen.assignments, chosen.only)
    return _say(chosen.assignments, measured)


@dataclass
class Page:
    """One kind of page: where its examples are, who asks, how long each answer took and how many queries."""

    name: str
    user: Any
    urls: list[str]
    seconds: list[float] = field(default_factory=list)
    processor: float = 0  # seconds of it for one answer, here and in PostgreSQL
    queries: int = 0

    def share(self, percent: int) -> float:
        return statistics.quantiles(self.seconds, n=100, method="inclusive")[percent - 1]


def _measure(size: int, only: str) -> list[Page]:
    from apps.inventory.models import Assignment
    from benchmarks import rows

    if not Assignment.objects.exists():
        started = time.perf_counter()
        rows.fill(size)
        sys.stdout.write(f"a company of {Assignment.objects.open().count():,} open assignments ")
        sys.stdout.write(f"was made in {time.perf_counter() - started:.0f} s\n")
    _inspect()
    pages = [page for page in _pages() if only in page.name]
    for page in pages:
        _ask(page)
    return pages


def _inspect() -> None:
    """Work out who can become whom and look for findings, as the clock does after each reading."""
    from apps.insights import inspecting
    from apps.insights.models import Finding
    from apps.inventory import tracing
    from apps.inventory.models import Connection, Escalation, Tracing

    if not Tracing.objects.exists():
        started, before = time.perf_counter(), _processor()
        tracing.trace(Connection.objects.get())
        took, used = time.perf_counter() - started, _processor() - before
        sys.stdout.write(
            f"{Escalation.objects.count():,} escalations in {took:.1f} s, {used:.1f} s of processor time\n"
        )
    if not Finding.objects.exists():
        started, before = time.perf_counter(), _processor()
        inspecting.inspect(Connection.objects.get())
        took, used = time.perf_counter() - started, _processor() - before
        sys.stdout.write(f"{Finding.objects.count():,} findings in {took:.1f} s, {used:.1f} s of processor time\n")


def _ask(page: Page) -> None:
    from django.test import Client

    client = Client()
    client.force_login(page.user)
    for number in range(WARM + REQUESTS):
        with _counted() as queries:
            started = time.perf_counter()
            response = client.get(page.urls[number % len(page.urls)], secure=True)
            body = b"".join(response) if response.streaming else response.content  # type: ignore[attr-defined]
            took = time.perf_counter() - started
        if response.status_code != 200 or not body:
            raise SystemExit(f"{page.name}: {page.urls[number % len(page.urls)]} answered {response.status_code}")
        page.queries = max(page.queries, queries[0])
        if number >= WARM:
            page.seconds.append(took)
        if number == WARM - 1:
            before = _processor()
    page.processor = (_processor() - before) / REQUESTS


def _processor() -> float:
    """Seconds of processor time, of this process and of its server process. Unlike the clock it does not count what
    others do on the same cores."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        server = Path(f"/proc/{cursor.fetchone()[0]}/schedstat")
    return time.process_time() + int(server.read_text().split()[0]) / 1e9


@contextmanager
def _counted() -> Iterator[list[int]]:
    from django.db import connection

    count = [0]

    def one_more(execute: Callable[..., Any], *args: Any) -> Any:
        count[0] += 1
        return execute(*args)

    with connection.execute_wrapper(one_more):
        yield count


def _say(size: int, pages: list[Page]) -> int:
    width = max(len(page.name) for page in pages)
    sys.stdout.write(f"{'page':{width}}  queries      p50      p95  processor   ratio\n")
    for page in pages:
        p50, p95 = page.share(50), page.share(95)
        sys.stdout.write(
            f"{page.name:{width}}  {page.queries:7}  {p50 * 1000:4.0f} ms  {p95 * 1000:4.0f} ms  "
            f"{page.processor * 1000:6.0f} ms  {p95 / LIMIT:6.2f}\n"
        )
    ratio = max(page.share(95) / LIMIT for page in pages)
    sys.stdout.write(f"assignments {size:,}, ratio {ratio:.2f}\n")
    return int(ratio > 1)


def _pages() -> list[Page]:
    """Every page of the inventory, typical and heaviest."""
    from django.db.models import Count
    from django.urls import reverse

    from apps.insights.models import Finding
    from apps.inventory.models import Assignment, Connection, Entitlement, Identity, Resource
    from apps.users.models import PortalRole, User

    erin = User.objects.get(email="member2@example.com")
    PortalRole.objects.get_or_create(user=erin, role=PortalRole.Role.ADMINISTRATOR)
    carol = User.objects.get(email="member3@example.com")
    lists = {name: reverse(f"inventory:{name}") for name in ("identities", "entitlements", "accounts", "connections")}
    people = [*Identity.objects.present().human().order_by("?")[:20]]
    machines = [*Identity.objects.present().machine().order_by("?")[:20]]
    heaviest = Identity.objects.get(external_id="user-1")
    sets = [*Entitlement.objects.filter(kind="permission_set").order_by("?")[:20]]
    everyone = Entitlement.objects.get(name="everyone")
    view_only = Assignment.objects.open().get(principal=everyone.group).entitlement
    resources = [*Resource.objects.order_by("?")[:20]]
    largest = Resource.objects.annotate(inside=Count("principals")).latest("inside")
    reports = [*Identity.objects.present().filter(manager__user=carol).order_by("?")[:20]]
    department = people[0].department
    account = resources[0].pk
    some = lists["identities"]
    findings, credentials = reverse("insights:findings"), reverse("inventory:credentials")
    admin = [
        ("identities", [some]),
        ("identities: machines", [f"{some}?kind=machine"]),
        ("identities: the page after", _after(erin, some, 5)),
        ("identities: found by name", [f"{some}?q={word}" for word in ("moreau", "ali", "person77", "zzz", "e")]),
        ("identities: machines found by name", [f"{some}?kind=machine&q={word}" for word in ("deploy-1", "zzz", "a")]),
        ("identities: privileged", [f"{some}?risk=privileged", f"{some}?kind=machine&risk=privileged"]),
        ("identities: of a department", [f"{some}?department={quote(department)}"]),
        ("identities: privileged of a department", [f"{some}?department={quote(department)}&risk=privileged"]),
        ("identities: unowned", [f"{some}?kind=machine&owner=none"]),
        ("identities: of a kind", [f"{some}?kind=machine&classification=third_party"]),
        ("identities: in an account", [f"{some}?kind=machine&account={account}"]),
        ("identities: left", [f"{some}?left=1", f"{some}?kind=machine&left=1"]),
        ("a person", [one.get_absolute_url() for one in people]),
        ("a machine", [one.get_absolute_url() for one in machines]),
        ("the heaviest person", [heaviest.get_absolute_url()]),
        ("an entitlement", [one.get_absolute_url() for one in sets]),
        ("the heaviest entitlement, held directly", [everyone.get_absolute_url()]),
        ("the heaviest entitlement, through a group", [view_only.get_absolute_url()]),
        *(
            (f"{name} {what}", [_history(one, query) for one in some_of])
            for what, query in (("on a day", [90]), ("on two days", [0, 90]))
            for name, some_of in (
                ("a person", people),
                ("the heaviest person", [heaviest]),
                ("an entitlement", sets),
                ("the heaviest entitlement", [everyone]),
                ("the heaviest through a group", [view_only]),
                ("an account", resources),
                ("the largest account", [largest]),
            )
        ),
        ("entitlements", [lists["entitlements"]]),
        ("entitlements: found by name", [f"{lists['entitlements']}?q={word}" for word in ("admin", "set7", "zzz")]),
        ("entitlements: admin", [f"{lists['entitlements']}?risk=admin", f"{lists['entitlements']}?risk=unknown"]),
        (
            "entitlements: in production",
            [f"{lists['entitlements']}?env=production", f"{lists['entitlements']}?env=sandbox"],
        ),
        ("entitlements: in an account", [f"{lists['entitlements']}?account={account}"]),
        ("accounts", [lists["accounts"]]),
        ("accounts: found", [f"{lists['accounts']}?q={word}" for word in ("pay", "1000000", "zzz")]),
        ("an account", [one.get_absolute_url() for one in resources]),
        ("the largest account", [largest.get_absolute_url()]),
        ("connections", [lists["connections"]]),
        ("a connection", [Connection.objects.get().get_absolute_url()]),
        ("home", ["/"]),
        ("insights", [reverse("insights:index")]),
        ("findings", [findings]),
        ("findings: found by name", [f"{findings}?q={word}" for word in ("deploy-1", "moreau", "zzz")]),
        ("findings: of a kind", [f"{findings}?kind={kind}" for kind in ("standing_admin", "unused", "root_key")]),
        ("findings: of a severity", [f"{findings}?severity=3", f"{findings}?severity=1"]),
        ("findings: accepted, done, gone", [f"{findings}?show={show}" for show in ("accepted", "resolved", "closed")]),
        ("findings: the page after", _after(erin, findings, 5)),
        ("a finding", [one.get_absolute_url() for one in Finding.objects.order_by("?")[:20]]),
        ("credentials", [credentials]),
        ("credentials: stale", [f"{credentials}?stale=1"]),
        ("credentials: without MFA", [f"{credentials}?mfa=none"]),
        ("credentials: found", [f"{credentials}?q={word}" for word in ("deploy-1", "zzz")]),
        ("credentials: in an account", [f"{credentials}?account={account}"]),
        ("logins", [reverse("inventory:logins")]),
        ("logins: found", [f"{reverse('inventory:logins')}?q={word}" for word in ("deploy-1", "zzz")]),
        ("logins: decided", [f"{reverse('inventory:logins')}?show=decided"]),
        ("paths of a person", [_paths(one) for one in people]),
        ("paths of a machine", [_paths(one) for one in machines]),
        ("paths of the heaviest person", [_paths(heaviest)]),
        ("paths into an account", [_paths(one, one_of) for one, one_of in zip(people, resources, strict=True)]),
        ("paths of the heaviest person into an account", [_paths(heaviest, one_of) for one_of in resources]),
    ]
    heavy = [("home of the heaviest person", ["/"])]
    manager = [
        ("identities", [some]),
        ("identities: machines", [f"{some}?kind=machine"]),
        ("identities: found by name", [f"{some}?q={word}" for word in ("moreau", "zzz")]),
        ("identities: privileged", [f"{some}?risk=privileged"]),
        ("a report", [one.get_absolute_url() for one in reports]),
        ("entitlements", [lists["entitlements"]]),
        ("an entitlement", [one.get_absolute_url() for one in sets]),
        ("accounts", [lists["accounts"]]),
        ("an account", [one.get_absolute_url() for one in resources]),
        ("home", ["/"]),
        ("findings", [findings]),
        ("credentials", [credentials]),
    ]
    return [
        *(Page(name, erin, urls) for name, urls in admin),
        *(Page(name, heaviest.user, urls) for name, urls in heavy),
        *(Page(f"manager: {name}", carol, urls) for name, urls in manager),
    ]


def _paths(identity: Any, account: Any = None) -> str:
    """The ways of somebody into an account, or into all of them."""
    from django.urls import reverse

    return reverse("inventory:paths", args=[identity.pk]) + (f"?account={account.pk}" if account else "")


def _history(row: Any, ago: list[int]) -> str:
    """The page about the first day, or about both: so many days ago."""
    days = [(datetime.now(UTC) - timedelta(days=number)).date().isoformat() for number in ago]
    return f"{row.get_absolute_url()}history?on={days[0]}{f'&since={days[1]}' if days[1:] else ''}"


def _after(user: Any, url: str, pages: int) -> list[str]:
    """The list some pages on."""
    from django.test import Client

    client = Client()
    client.force_login(user)
    for _ in range(pages):
        body = client.get(url, secure=True).content.decode()
        link = re.search(r'href="([^"]*page=[^"]*)"[^>]*rel="next"', body)
        assert link, f"{url} is the last page"
        url = url.partition("?")[0] + html.unescape(link[1])
    return [url]


if __name__ == "__main__":
    sys.exit(main())
