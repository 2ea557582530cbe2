from tests.grants.conftest import clock, system

__all__ = ["clock", "system"]
