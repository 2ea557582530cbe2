"""What happened at the company this morning: requests and reviews, through the same services as all others.

Nothing that takes a step-up is among it, since nobody has stepped up yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from apps.access.models import AccessRequest, Offer
from apps.access.services import offers, requests
from apps.demo.company.people import CAST, email
from apps.grants.models import Grant
from apps.inventory.models import Connection, Entitlement
from apps.inventory.models.resources import Environment
from apps.reviews.models import Campaign, Holder
from apps.reviews.services import campaigns
from apps.users.models import User


@dataclass(frozen=True)
class Asked:
    """Somebody asks for `offer` in `account`, and, where it says so, is told no by `denied_by`."""

    who: str
    offer: str
    account: str
    minutes: int
    reason: str
    ticket: str = ""
    denied_by: str = ""
    why_not: str = ""


MORNING = (
    Asked(
        email("Viktor Sandoval"),
        "NetworkOperator",
        "harbourline-production",
        240,
        "Open the database port to my laptop while I migrate",
        denied_by=CAST["bob"],
        why_not="Not from outside. Use the bastion, Hamza can show you how.",
    ),
    Asked(CAST["alice"], "SupportView", "harbourline-production", 90, "Find the card payments that hang", "PAY-409"),
    Asked(email("Elena Marković"), "Deployer", "harbourline-sandbox", 60, "Try the new search index before we plan it"),
    Asked(CAST["alice"], "Deployer", "harbourline-production", 120, "Roll out the fix for double charges", "PAY-412"),
    Asked(CAST["mallory"], "Deployer", "harbourline-staging", 60, "Show Elena the booking change on staging"),
    Asked(CAST["alice"], "Query the data lake", "harbourline-data", 60, "Count who was charged twice", "PAY-412"),
)


def make_requests(connection: Connection) -> list[AccessRequest]:
    """Ask and decide all of MORNING."""
    return [_ask(connection, asked) for asked in MORNING]


def make_reviews(connection: Connection) -> list[Campaign]:
    """One that waits for the managers, and one that waits for an administrator to launch it."""
    erin, farid = (User.objects.get(email=CAST[name]) for name in ("erin", "farid"))
    privileged = campaigns.draft(
        name="Privileged access in production",
        connection=connection,
        holders=[Holder.HUMAN],
        environments=[Environment.PRODUCTION],
        due_at=timezone.now() + timedelta(days=14),
        fallback=farid,
        by=erin,
        instructions="Keep what somebody needs every week. Everything else can be asked for when it is needed.",
    )
    machines = campaigns.draft(
        name="What machines hold in staging",
        connection=connection,
        holders=[Holder.MACHINE],
        environments=[Environment.STAGING],
        privileged_only=False,
        due_at=timezone.now() + timedelta(days=30),
        fallback=farid,
        by=erin,
    )
    return [campaigns.launch(privileged, by=erin), machines]


def first_active(connection: Connection) -> Grant | None:
    """What somebody was given through Identity Center, once it is open."""
    given = Grant.objects.filter(connection=connection, state=Grant.State.ACTIVE)
    given = given.filter(entitlement__kind=Entitlement.Kind.PERMISSION_SET)
    return given.select_related("connection", "entitlement__resource", "principal__identity").order_by("pk").first()


def _ask(connection: Connection, asked: Asked) -> AccessRequest:
    who = User.objects.get(email=asked.who)
    on_offer = Offer.objects.open().with_names().filter(entitlement__connection=connection)
    row = on_offer.get(entitlement__name=asked.offer, entitlement__resource__name=asked.account)
    request = requests.ask(
        row,
        principal=offers.holders_for(who, row)[0],
        duration=timedelta(minutes=asked.minutes),
        reason=asked.reason,
        ticket_ref=asked.ticket,
        by=who,
        place=requests.Place(),
    )
    if asked.denied_by:
        requests.deny(request, by=User.objects.get(email=asked.denied_by), reason=asked.why_not)
    return request
