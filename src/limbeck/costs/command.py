"""The command ``limbeck plan``."""

import json
from collections.abc import Sequence
from pathlib import Path

from limbeck.commit import write_text
from limbeck.costs.jobs import planned
from limbeck.costs.rates import load
from limbeck.costs.show import show
from limbeck.costs.summary import summarise


def plan(
    configfiles: Sequence[Path],
    targets: Sequence[str],
    cores: int,
    gpus: int,
    cluster: bool,
    everything: bool,
    rates: Path | None,
    json_file: Path | None,
    snakefile: Path,
) -> None:
    """Print what is to be run for some targets and what it takes, and write it to a file.

    Raises
    ------
    LimbeckError: a file is missing or no file of rates, the config is refused, nothing makes a target.
    """
    if rates is not None:
        load(rates, "")  # before the minute that a large plan takes
    workflow = planned(configfiles, targets, snakefile=snakefile, cores=cores, everything=everything)
    chosen, source = load(rates, workflow.plan.root)
    found = summarise(workflow.plan, workflow.jobs, chosen, cores, gpus, cluster)
    show(found, chosen, source)
    if json_file is not None:
        write_text(json_file, json.dumps({"rates": str(source), **found.as_json()}, indent=1) + "\n")
