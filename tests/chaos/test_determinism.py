"""Shards, batches, jobs at once and kills change no image by more than rounding: a few ways of the long run."""

import pytest

from tests.chaos.determinism import several


@pytest.mark.chaos
def test_however_the_work_is_cut_the_images_are_the_same(tmp_path):
    worst = several(3, 0, tmp_path)
    print(worst)
    assert worst["random"] == worst["patches"] == (0, 0)
    assert worst["dit"][1] > 0  # the batches of another size were computed, not found
