"""A short version of the kills of ``make chaos``: a small workflow, real processes."""

import pytest

from tests.chaos.kill import small


@pytest.mark.chaos
def test_killed_runs_end_as_undisturbed_ones(tmp_path):
    tally = small(8, 0, tmp_path, every_rule=False)
    print(tally)
    assert tally.kills >= 8
    assert tally.kinds["job"]
