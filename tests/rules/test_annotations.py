from datetime import timedelta

import pytest

from apps.rules import annotations
from apps.rules.annotations import AnnotationError, Requirement


@pytest.mark.parametrize(("text", "minutes"), [("30m", 30), ("90m", 90), ("1h", 60), ("24h", 1440)])
def test_a_duration_is_read(text: str, minutes: int) -> None:
    assert annotations.parse_duration(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "text",
    ["", "4", "h", "0h", "-1h", "+1h", "1.5h", "1 h", " 1h", "1h ", "1h30m", "1d", "25h", "1441m", "1H", "²h", "１h"],
)
def test_what_is_not_exactly_a_duration_is_refused(text: str) -> None:
    with pytest.raises(AnnotationError, match="is not a duration"):
        annotations.parse_duration(text)


def test_approvers_keep_their_order() -> None:
    assert annotations.parse_approvers("owner, manager") == ("owner", "manager")


@pytest.mark.parametrize("text", ["", "manager,", "boss", "Manager", "manager owner", "owner, owner", "self"])
def test_unknown_approvers_are_refused(text: str) -> None:
    with pytest.raises(AnnotationError):
        annotations.parse_approvers(text)


def test_requirements_are_read() -> None:
    assert annotations.parse_requirements("mfa 15m, ticket") == (
        Requirement("mfa", timedelta(minutes=15)),
        Requirement("ticket"),
    )


@pytest.mark.parametrize(
    "text", ["", "mfa", "mfa 0m", "mfa  15m", "mfa 15m, mfa 5m", "ticket 5m", "ticket, ticket", "Ticket"]
)
def test_requirements_that_are_not_understood_are_refused(text: str) -> None:
    with pytest.raises(AnnotationError):
        annotations.parse_requirements(text)


@pytest.mark.parametrize("text", ["mfa 15m", "ticket", "mfa 1h"])
def test_a_requirement_says_itself_as_it_was_written(text: str) -> None:
    assert str(annotations.parse_requirements(text)[0]) == text
