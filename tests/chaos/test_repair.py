"""What an error says about a damaged artifact, done."""

import subprocess

import pytest

from tests.chaos.corruption import repaired
from tests.chaos.runs import SmallRun, clean_environment


@pytest.mark.chaos
def test_a_damaged_artifact_is_named_and_the_command_rebuilds_it(tmp_path):
    run = SmallRun(tmp_path / "w", ["random", "mgd"])
    subprocess.run(["bash", "-c", run.command], cwd=run.folder, env=clean_environment(), check=True)
    assert repaired(run, 2, 0) == 2
