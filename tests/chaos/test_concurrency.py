"""Two runs in one folder, clocks that are wrong, and no network: a few of each."""

import pytest

from tests.chaos import concurrency

pytestmark = pytest.mark.chaos


def test_a_second_run_in_a_folder_is_refused_and_the_first_goes_on(tmp_path):
    assert concurrency.two_runs(tmp_path) == 1


def test_wrong_clocks_run_nothing_again(tmp_path):
    assert concurrency.skewed(tmp_path, 4, 0) == 4


def test_a_run_with_local_files_needs_no_network(tmp_path):
    if reason := concurrency.cannot_unshare():
        pytest.skip(reason)
    assert concurrency.without_network(tmp_path) == 1
