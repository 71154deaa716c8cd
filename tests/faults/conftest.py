"""Runs that several files compare others to."""

import pytest

from tests.faults.wholes import Whole


@pytest.fixture(scope="session")
def wholes(tmp_path_factory):
    """(family, ranks) -> its uninterrupted run, made where it is first asked for."""
    made: dict[tuple[str, int], Whole] = {}

    def get(family, world):
        if (family, world) not in made:
            made[family, world] = Whole(tmp_path_factory.mktemp(f"{family}-{world}"), family, world)
        return made[family, world]

    return get
