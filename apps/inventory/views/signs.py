"""The signs of a machine as a page prints them."""

from __future__ import annotations

from dataclasses import dataclass

from apps.inventory.models import Identity
from apps.inventory.models.concerns import HIGH, Concern
from apps.inventory.models.holders import Classification, Confidence

# state kind, icon
SURE = {"high": ("line", "circle-check"), "medium": ("line", "circle-dashed"), "low": ("wait", "question-mark")}


@dataclass(frozen=True)
class Warned:
    """One thing that is wrong, and whether it is grave."""

    sentence: str
    is_high: bool


@dataclass(frozen=True)
class Shown:
    """One class, how sure it is, and why."""

    what: str
    sure: str
    kind: str
    icon: str
    evidence: str
    statement: str
    concerns: tuple[Warned, ...]


def signs_of(identity: Identity) -> list[Shown]:
    """Every class that AWS shows, the one to worry about most first."""
    return [
        Shown(
            what=str(dict(Classification.choices).get(sign["classification"], "Unknown")),
            sure=Confidence(sign["confidence"]).label,
            kind=SURE[sign["confidence"]][0],
            icon=SURE[sign["confidence"]][1],
            evidence=sign["evidence"],
            statement=sign["statement"],
            concerns=tuple(
                Warned(str(Concern(code).label), code in HIGH) for code in sign["concerns"] if code in Concern.values
            ),
        )
        for sign in identity.signs
    ]
