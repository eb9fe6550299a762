"""Damage to the files of a whole run is found, wherever it is (``make chaos`` has more of it)."""

import pytest

from tests.chaos import corruption
from tests.conftest import Workflow, make_workflow


@pytest.fixture(scope="module")
def built(tmp_path_factory, tiny_prior) -> Workflow:
    folder = tmp_path_factory.mktemp("corruption") / "w"
    flow = make_workflow(folder, tiny_prior, run={"methods": ["random", "mgd", "d3hr"]})
    flow.build()
    return flow


@pytest.mark.long
@pytest.mark.parametrize(
    ("how", "count"),
    [
        (corruption.flipped, 200),
        (corruption.truncated, 40),
        (corruption.emptied, 10),
        (corruption.cut, 20),
        (corruption.appended, 20),
    ],
)
def test_damage_is_found(built, how, count):
    assert corruption.harm(built.results, count, 0, how) == count


@pytest.mark.long
def test_other_artifacts_in_a_place_are_found(built):
    assert corruption.swapped(built.results, 20, 0) == 20
