"""A short version of the kills of ``make chaos``: a small workflow, real processes."""

import pytest

from tests.chaos.kill import small


@pytest.mark.chaos
def test_killed_runs_end_as_undisturbed_ones(tmp_path):
    tally = small(12, 0, tmp_path)
    print(tally)
    assert tally.kills >= 12
    assert tally.kinds["job"]
