"""`manage.py demo`: a company that lives in a local AWS, its people in the portal, until Ctrl-C. Run by `make demo`."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import time
import urllib.error
import urllib.request
from argparse import SUPPRESS
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from threading import Thread
from types import FrameType
from typing import Any

import psycopg
from celery import current_app
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.demo import cast, database_roles, safety, said, trail
from apps.demo.company.harbourline import HARBOURLINE
from apps.demo.company.model import Company
from apps.demo.history import first_active, make_requests, make_reviews
from apps.demo.portal import CannotSignUp, Portal
from apps.demo.processes import Died, Program, Programs
from apps.demo.seed_aws import CannotSeed, Summary, seed
from apps.demo.start_over import CannotStartOver, empty_broker, start_database_over

HOST = "127.0.0.1"  # one click signs anybody in, so nobody else's machine may reach it
WATCH_EVERY = 0.3  # seconds
WAIT_FOR_ALICE = 10.0  # seconds, until what she asked for is open
GONE_WRONG = (CannotSeed, CannotSignUp, CannotStartOver, Died)


class Command(BaseCommand):
    help = "Start the demo and keep it running until Ctrl-C. Everything is made anew each time."
    requires_system_checks: list[str] = []  # they want the demo's AWS to run already

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--people", type=int, default=0, help="only so many of the sixty, for a quicker start")
        parser.add_argument("--logs", type=Path, default=settings.BASE_DIR / ".local" / "demo", help=SUPPRESS)

    def handle(self, *_: Any, people: int, logs: Path, **__: Any) -> None:
        self.port = _free_port()
        company = HARBOURLINE.trimmed(people=max(people, 13), roles_per_account=6) if people else HARBOURLINE
        self.programs = Programs(logs.resolve(), cwd=settings.BASE_DIR)
        self.private = TemporaryDirectory(prefix="gatehouse-")  # where web and broker meet
        self.broker_key = secrets.token_urlsafe(32)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # a shell in the background ignores SIGINT for us
            signal.signal(number, _interrupt)
        self.say(f"\n{company.name}, a made-up company in a local AWS\n")
        try:
            self.start(company)
            self.watch()
        except KeyboardInterrupt:
            self.say("\nStopping.")
        except GONE_WRONG as error:
            raise CommandError(f"\n{error}") from error
        finally:
            _ignore_signals()
            self.programs.stop()
            self.private.cleanup()
        self.say("Stopped. Nothing of it runs any more.")

    # ---- starting

    def start(self, company: Company) -> None:
        began = time.monotonic()
        with self.step("Database") as done:
            self.keeper: psycopg.Connection = start_database_over()
            empty_broker()
            done("started over, and so is the broker")
        with self.step("AWS and tables") as done:
            done(self.make_aws_and_tables(company))
        portal = Portal(company)
        with self.step("First sync") as done:
            portal.connect()
            done(f"{portal.read().calls:,} calls")
        with self.step("Audit trail") as done:
            done(f"{trail.deliver(portal.connection, by=portal.erin):,} calls of machines in {trail.DAYS} days")
        begun = self.start_portal()
        with self.step("People") as done:
            portal.sign_up()
            portal.name_managers()
            portal.name_owners()
            said.about_machines(portal.connection)
            said.about_people(portal.connection)
            done(f"{len(company.people)} linked to who they are in the directory")
        with self.step("Trust") as done:
            portal.open()
            done("baselined by Erin; writing proposed by Erin, approved by Farid")
        with self.step("Catalogue") as done:
            done(f"{len(portal.offer())} offers")
        with self.step("This morning") as done:
            requests, reviews = make_requests(portal.connection), make_reviews(portal.connection)
            done(f"{len(requests)} requests, {len(reviews)} reviews")
        with self.step("Web and workers") as done:
            for program, is_ready in begun:
                self.programs.wait_for(program, is_ready, seconds=90)
            apart = ", each with a database role of its own" if self.password else ""
            done(f"web, worker, clock, broker and ender{apart}")
        with self.step("Access in use") as done:
            done(self.use_access(portal))
        self.say(f"\n  {'Ready':<17}{'':<60}{time.monotonic() - began:5.1f} s")
        self.say(self.how_to_sign_in())

    def use_access(self, portal: Portal) -> str:
        """Alice works with what she was given this morning. When it opens late, nobody waits for her."""
        deadline = time.monotonic() + WAIT_FOR_ALICE
        while (grant := first_active(portal.connection)) is None:
            self.programs.check()
            if time.monotonic() > deadline:
                return "nothing was opened yet"
            time.sleep(0.2)
        return f"{trail.use(grant)} calls by {grant.principal.identity}; the pages show them in two minutes"

    def make_aws_and_tables(self, company: Company) -> str:
        """AWS is built by another process, so the tables are made meanwhile."""
        aws = self.programs.start("aws", ["-m", "apps.demo.aws_server", "--port", "0"], os.environ)
        self.programs.wait_for(aws, lambda: aws.said("http://"), seconds=60)
        endpoint = aws.log.read_text().split()[0]
        built: SimpleQueue[Summary | Exception] = SimpleQueue()
        Thread(target=_seed_into, args=(built, endpoint, company), daemon=True).start()
        call_command("migrate", verbosity=0, interactive=False)
        self.password = database_roles.separate()
        self.programs.wait_for(aws, lambda: not built.empty(), seconds=300)
        summary = built.get()
        if isinstance(summary, Exception):
            raise summary
        os.environ[safety.ENDPOINT] = endpoint
        counts = summary.counts
        return f"{counts['accounts']} accounts, {counts['people']} people, {counts['roles']} roles"

    def start_portal(self) -> list[tuple[Program, Callable[[], bool]]]:
        """The portal's programs, with what says that those which people wait for are up. They come up while people are
        signed up."""
        celery = ["-m", "celery", "-A", "config"]
        queues = ",".join(queue.name for queue in current_app.conf.task_queues)
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]  # there is only one worker
        start = self.programs.start
        web = start("web", ["-m", "gunicorn", "--config", "python:config.gunicorn"], self.environ("web"))
        work = ["worker", "-Q", queues, "-P", "threads", "-c", "4", *quiet]
        worker = start("worker", [*celery, *work], self.environ("worker"))
        clock = start("clock", [*celery, "beat", "--pidfile="], self.environ("clock"))
        broker = start("broker", ["manage.py", "broker"], self.environ("broker"))
        start(
            "ender", ["manage.py", "ender"], self.environ("ender")
        )  # nobody waits for it: it is there when others fail
        return [
            (web, self.is_healthy),
            (worker, lambda: worker.said(" ready.")),
            (clock, lambda: clock.said("beat: Starting")),
            (broker, lambda: broker.said("The broker listens")),
        ]

    def environ(self, process: str) -> dict[str, str]:
        """What one of the portal's programs is started with. What is secret goes this way, never as an argument."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OIDC_")}
        mails = self.programs.logs / "mail"
        meeting = {"BROKER_SOCKET": f"{self.private.name}/broker", "BROKER_KEY": self.broker_key}
        return {
            "EMAIL_URL": f"filemail:///{mails}",
            "WEB_WORKERS": "1",
            "WEB_THREADS": "8",
            **trail.ENVIRON,
            **kept,
            "DEMO": "1",
            "DEBUG": "0",  # pages as people would see them, errors too
            "COMPANY": HARBOURLINE.name,
            "HOST": HOST,
            "PORT": str(self.port),
            "BASE_URL": self.url,
            "STEP_UP_WAITING_HOURS": "0",
            "TRUSTED_PROXY_COUNT": "0",
            **(meeting if process in ("web", "broker") else {}),
            **({"LEDGER_PATH": f"{self.private.name}/ledger"} if process in ("worker", "ender") else {}),
            **database_roles.environ(process, self.password),
        }

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def is_healthy(self) -> bool:
        request = urllib.request.Request(f"http://{HOST}:{self.port}/healthz", headers={"Host": "localhost"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310  our own web server
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    # ---- running

    def watch(self) -> None:
        """Until Ctrl-C. Raises Died when a program of the demo ends by itself."""
        while True:
            self.programs.check()
            time.sleep(WATCH_EVERY)

    def how_to_sign_in(self) -> str:
        width = max(len(part.name) for part in cast.parts())
        rows = "\n".join(f"    {part.name:<{width}}  {part.shows}" for part in cast.parts())
        return (
            f"\n  Open {self.url} and click on one of these people, or on anybody else:\n\n{rows}\n\n"
            "  Where Gatehouse asks for a code:  .venv/bin/python manage.py demo_code NAME   (such as: alice)\n"
            "  Privileged access is approved with a passkey: add one in your settings first.\n"
            f"  Mails and logs: {_short(self.programs.logs)}\n\n"
            "  Ctrl-C stops everything.\n"
        )

    # ---- saying

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[[str], None]]:
        """One line: what is being done, then what came of it and how many seconds it took."""
        began = time.monotonic()
        said: list[str] = []
        self.stdout.write(f"  {name:<17}", ending="")
        self.stdout.flush()
        try:
            yield said.append
        except BaseException:
            self.stdout.write("")
            raise
        self.say(f"{said[0]:<60}{time.monotonic() - began:5.1f} s")


def _seed_into(built: SimpleQueue[Summary | Exception], endpoint: str, company: Company) -> None:
    try:
        built.put(seed(endpoint, company))
    except Exception as error:  # noqa: BLE001  handed over to the thread that waits
        built.put(error)


def _free_port() -> int:
    """PORT, if it is one that nobody listens on."""
    said = os.environ.get("PORT", "").strip() or "8000"
    if not said.isdigit() or not 0 < int(said) < 65536:
        raise CommandError(f"PORT is {said!r}. Use a number from 1 to 65535.")
    port = int(said)
    for family, *_, address in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
        with socket.socket(family, socket.SOCK_STREAM) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                line.bind(address)
            except PermissionError:
                raise CommandError(f"You may not listen on port {port}. Choose another: make demo PORT=8001") from None
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise CommandError(f"Port {port} is taken. Choose another: make demo PORT={port + 1}") from None
    return port


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Nothing interrupts the stopping: it ends by itself, within seconds."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _short(path: Path) -> str:
    return str(path.relative_to(settings.BASE_DIR)) if path.is_relative_to(settings.BASE_DIR) else str(path)
