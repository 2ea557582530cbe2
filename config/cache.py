"""How values lie in the cache: as JSON. With pickle, Django's own way, whoever can write Redis could run code here."""

from __future__ import annotations

import json
from typing import Any


class JsonSerializer:
    """Whole numbers stay as they are, so that Redis can count; everything else is JSON.

    Raises TypeError for what JSON cannot say: keep such things in the database.
    """

    def dumps(self, value: Any) -> bytes | int:
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)
