"""Snakemake's lock of a run that was killed is removed, wherever its Snakefile is; that of a living one stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("living", [False, True])
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="who is alive is looked up in /proc")
def test_a_lock_goes_with_the_snakemake_that_took_it(tmp_path, living):
    lock = tmp_path / ".snakemake/locks/0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    called = "snakemake" if living else "other"
    with subprocess.Popen(["bash", "-c", f"exec -a {called} sleep 60"], cwd=tmp_path) as process:
        while Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")[0] != called.encode():
            pass
        subprocess.run([sys.executable, str(ROOT / "workflow/scripts/unlock_stale.py")], cwd=tmp_path, check=True)
        process.kill()
    assert lock.exists() == living
