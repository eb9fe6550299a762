"""The jobs of a run, as Snakemake itself plans them."""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

from snakemake.api import SnakemakeApi
from snakemake.exceptions import RuleException, WorkflowError
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

from limbeck.errors import LimbeckError
from limbeck.plan import Plan

CHECKSUMS = 50 * 10**9  # bytes up to which a file's content is compared, as in profiles/default


@dataclass(frozen=True)
class Job:
    """One job: its rule, its wildcards, the threads that it takes, and the places in the list of those that it waits for.

    spec: its params string, sidecar: where it says what it did; empty where it has none.
    """

    rule: str
    wildcards: dict[str, str]
    threads: int
    after: tuple[int, ...]
    spec: str = ""
    sidecar: str = ""


@dataclass(frozen=True)
class Workflow:
    """What a run will do: its config, resolved, and its jobs."""

    plan: Plan
    jobs: list[Job]


def planned(
    configfiles: Sequence[Path], targets: Sequence[str] = (), *, snakefile: Path, cores: int, everything: bool = False
) -> Workflow:
    """The jobs that are still to be run for some targets; ``everything``: as if nothing had been.

    It is Snakemake's dry run in the current folder, stopped before it lists its jobs.

    Raises
    ------
    LimbeckError: a file is missing, the config is refused, nothing makes a target.
    """
    for path in (snakefile, *configfiles):
        if not os.path.isfile(path):
            raise LimbeckError(f"{path}: no such file")
    # with these two a dry run ends where its jobs would be listed
    output = OutputSettings(dryrun=True, quiet={Quietness.RULES, Quietness.PROGRESS})
    with _silent(), SnakemakeApi(output) as api:
        try:
            config = ConfigSettings(configfiles=[path.absolute() for path in configfiles])
            workflow = api.workflow(ResourceSettings(cores=cores), config, snakefile=snakefile)
            dag = workflow.dag(DAGSettings(targets=set(targets), forceall=everything, max_checksum_file_size=CHECKSUMS))
            dag.execute_workflow(executor="dryrun")
        except (WorkflowError, RuleException) as error:
            raise LimbeckError(" ".join(str(error).split())) from None
        except (UnicodeDecodeError, SyntaxError, TokenError, NameError) as error:
            raise LimbeckError(f"{snakefile}: no Snakefile ({' '.join(str(error).split())})") from None
        found = workflow._workflow  # the API itself gives no jobs
        if "PLAN" not in found.globals:
            raise LimbeckError(f"{snakefile}: not Limbeck's Snakefile")
        # Snakemake keeps them in sets
        jobs = sorted(found.dag.needrun_jobs(), key=lambda job: (job.rule.name, sorted(job.wildcards_dict.items())))
        places = {job: place for place, job in enumerate(jobs)}
        waits = (tuple(places[each] for each in found.dag.dependencies[job] if each in places) for job in jobs)
        listed = [
            Job(job.rule.name, dict(job.wildcards_dict), job.threads, after, job.params.get("spec", ""), job.output.get("prov", ""))
            for job, after in zip(jobs, waits, strict=True)
        ]
        return Workflow(found.globals["PLAN"], listed)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what Snakemake says of a dry run."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
