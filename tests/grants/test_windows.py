"""What a shared object must say is read in a few statements, whoever it is about."""

from __future__ import annotations

from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.grants.windows import is_held_standing, windows_of
from apps.inventory.models import Assignment
from tests.grants.system import System


def test_the_number_of_queries_does_not_grow_with_the_people_in_it(system: System) -> None:
    first = system.active()

    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            windows_of(first.shared_key)
        return len(seen)

    few = queries()
    for number in range(4):
        who = system.person(f"p{number}")
        system.active(who)
        system.holds(who, system.admin)
    assert len(windows_of(first.shared_key)) == 5
    assert queries() == few


def test_each_window_knows_what_its_own_holder_has_all_the_time(system: System) -> None:
    mine, other = system.active(system.alice), system.active(system.bob)
    Assignment.objects.filter(principal=system.alice).update(is_standing=True)
    windows = {window.target.principal_name: window.holds_standing for window in windows_of(mine.shared_key)}
    assert windows == {"alice": True, "bob": False}
    assert is_held_standing(mine)
    assert not is_held_standing(other)
