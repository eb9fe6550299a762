"""Runs in processes of their own, as users start them."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.conftest import make_workflow
from tests.tiny_priors import save_tiny_dit

ROOT = Path(__file__).parents[2]
OPTIONS = "--rerun-incomplete --max-checksum-file-size 50GB --show-failed-logs --quiet rules"


def clean_environment() -> dict[str, str]:
    """Without the server of whoever runs this, and with the commands that are installed beside it."""
    kept = {key: value for key, value in os.environ.items() if key not in ("LIMBECK_WARM", "LIMBECK_SNAKEMAKE")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


class SmallRun:
    """A small workflow of some methods in a folder: what runs it, what says what would run, and where its results are."""

    def __init__(self, folder: Path, rows: Sequence[str], cores: int = 2, **overlay: Any):
        prior = folder.parent / "tiny-dit"
        if not prior.exists():
            save_tiny_dit(prior)
        priors = {"tiny": {"weights": str(prior), "view": "v32", "cfg_scale": 1.5}}
        for name, changed in overlay.pop("priors", {}).items():
            priors[name] = {**priors.get(name, {}), **changed}
        flow = make_workflow(folder, prior, run={"methods": list(rows)}, priors=priors, **overlay)
        start = [
            "snakemake",
            "-s",
            str(ROOT / "Snakefile"),
            "--directory",
            ".",
            "--cores",
            str(cores),
            "--configfile",
            *flow.configs(),
        ]
        unlock = [sys.executable, str(ROOT / "workflow/scripts/unlock_stale.py")]
        self.folder, self.results = folder, flow.results
        self.dry = f"{shlex.join(start)} -n"
        self.command = f"{shlex.join(unlock)} && {shlex.join(start)} {OPTIONS}"
