"""Faults of the machine, a few of each."""

import pytest

from tests.chaos.environment import FAULTS, needs_root


@pytest.mark.chaos
@pytest.mark.parametrize(("fault", "count"), [pytest.param(function, short, id=name) for name, function, short, _ in FAULTS])
def test_a_fault_is_explained_and_leaves_nothing_half_written(fault, count):
    if reason := needs_root():
        pytest.skip(reason)
    assert fault(count, 0) == count
