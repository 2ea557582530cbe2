"""The database backend that `config.env` names (Django documentation, "Subclassing the built-in database backends")."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base

from config.postgresql import loaders


class DatabaseWrapper(base.DatabaseWrapper):
    def get_connection_params(self) -> dict[str, Any]:
        params = super().get_connection_params()
        return {**params, "context": loaders.extending(params["context"], self.timezone)}
