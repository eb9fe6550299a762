"""A short version of the kills of ``make chaos``: a small workflow, real processes."""

import shlex
import sys
from pathlib import Path

import pytest

from tests.chaos.kill import ROOT, small_run
from tests.conftest import make_workflow

pytestmark = pytest.mark.chaos


def test_killed_runs_end_as_undisturbed_ones(tmp_path, tiny_prior):
    def make(folder: Path) -> tuple[str, str, Path]:
        flow = make_workflow(folder, tiny_prior, run={"methods": ["random", "mgd", "manifoldgd", "d3hr", "ims3", "coda"]})
        options = "--cores 2 --rerun-incomplete --max-checksum-file-size 50GB --quiet rules"
        run = f"{sys.executable} -m snakemake -s {shlex.quote(str(ROOT / 'Snakefile'))} --directory . --configfile"
        run = f"{run} {' '.join(flow.configs())} {options}"
        return (
            f"{sys.executable} {ROOT}/workflow/scripts/unlock_stale.py && {run}",
            run.replace("--quiet rules", "-n"),
            flow.results,
        )

    tally = small_run(12, 0, tmp_path, make)
    assert tally.kills >= 12
    assert tally.kinds["job"]
