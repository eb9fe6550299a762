"""Bad input is refused in one line: short runs of the fuzzers, and what long ones found, one by one."""

from collections.abc import Callable

import pytest

from tests.chaos.bad_input import FAULTS


@pytest.mark.parametrize(("name", "fault", "count"), [fault[:3] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_no_fault_is_more_than_an_error_in_one_line(name: str, fault: Callable[[int, int], int], count: int):
    assert fault(count, 2026) >= count, name
