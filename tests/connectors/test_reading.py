"""What AWS's words become before anybody looks at them."""

from __future__ import annotations

import pytest

from apps.connectors.aws import reading


@pytest.mark.parametrize("hidden", ["\u00a0", "\u200b", "\u3000"])
def test_a_tag_that_only_looks_like_another_one_does_not_speak_for_it(hidden: str) -> None:
    real = {"Key": "cost owner", "Value": "bob"}
    like = {"Key": f"cost{hidden}owner", "Value": "mallory"}
    assert reading.tags([real, like]) == reading.tags([like, real]) == {"cost owner": "bob"}
    assert reading.tags([like]) == {"cost owner": "mallory"}


def test_no_tags_are_none() -> None:
    assert reading.tags(None) == reading.tags([]) == {}
