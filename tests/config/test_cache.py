"""The cache holds data, never code."""

import pickle

import pytest
from django.core.cache import cache, caches


@pytest.mark.parametrize("value", [0, 7, True, False, None, "text", 1.5, [1, [2.5, "x"]], {"a": [1]}])
def test_what_goes_in_comes_out(value: object) -> None:
    cache.set("key", value)
    assert cache.get("key", "missing") == value


def test_counting_works() -> None:
    cache.set("count", 1)
    assert cache.incr("count") == 2


def test_what_somebody_else_wrote_there_is_never_run() -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (pytest.fail, ("the cache ran what it was given",))

    client = caches["default"]._cache.get_client(write=True)
    client.set(cache.make_key("key"), pickle.dumps(Code()))
    with pytest.raises(UnicodeDecodeError):
        cache.get("key")
