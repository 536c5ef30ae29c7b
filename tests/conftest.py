"""How the tests are spread over workers: a file stays together, and so do the tests that share Slurm or fill the machine."""

from __future__ import annotations

import pytest

FIRST = ("engine", "slurm")  # the longest; each needs its worker to itself


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name every test's group, and put the longest groups first."""
    places = {item: next((name for name in FIRST if item.get_closest_marker(name)), str(item.path)) for item in items}
    for item, place in places.items():
        item.add_marker(pytest.mark.xdist_group(place))
    items.sort(key=lambda item: FIRST.index(places[item]) if places[item] in FIRST else len(FIRST))
