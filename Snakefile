"""Limbeck: dataset distillation with diffusion priors. Targets: results/<dataset>/ipc<N>/summary.html."""

import gc
import os
import shlex
import sys
from itertools import product
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from limbeck import commit, papers, records, resources, warm
from limbeck.config import OF_PRIOR, TEACHER
from limbeck.derived import TUNED_FAMILIES
from limbeck.errors import LimbeckError
from limbeck.faults import check_writable
from limbeck.plan import Plan
from limbeck.priors.files import DELTA, FILES, INDEX, LAYOUTS, LOSS, MANIFEST, RECORD

min_version("9.27")
# the jobs of a plan stay to its end; looking through them for garbage is an eighth of the time that planning ImageNet-1K takes
gc.set_threshold(100_000)


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


try:
    PLAN = Plan(config)
except LimbeckError as error:
    raise WorkflowError(str(error)) from None

R = PLAN.root
# of every job: what a network is asked for, and that nobody is told
os.environ.update(
    {"HF_HUB_DISABLE_TELEMETRY": "1"},
    **({"HF_HUB_OFFLINE": "1"} if PLAN.config.offline else {}),
)
# of every job that computes with networks; a profile's `resources: [gpu=N]` says how many of them a machine takes at once
GPUS = int(os.environ.get("LIMBECK_DEVICE") == "cuda")
# threads of what would use two: of two cores both are rarely free at once, and one would idle; a job on a cluster's node has its own
TWO = (
    1
    if not workflow.remote_exec and (workflow.resource_settings.cores or 4) <= 2
    else 2
)
# used with `--software-deployment-method conda`; without it jobs run on the Python that runs Snakemake
ENVIRONMENT = str(
    Path(workflow.basedir)
    / "envs"
    / f"{os.environ.get('LIMBECK_ENVIRONMENT', 'cpu')}.yaml"
)
# what an error says makes a file again
os.environ.setdefault(
    records.COMMAND,
    records.command(
        workflow.main_snakefile,
        workflow.config_settings.configfiles,
        workflow.config_settings.config_args,
    ),
)
BIN, SOURCES = (
    shlex.quote(str(path))
    for path in (Path(sys.executable).parent, Path(workflow.basedir) / "src")
)
shell.prefix(
    "set -euo pipefail; export LIMBECK_DIE_WITH_PARENT=1"
    f" PATH=${{{{CONDA_PREFIX:+$CONDA_PREFIX/bin:}}}}{BIN}:$PATH PYTHONPATH=${{{{PYTHONPATH:+$PYTHONPATH:}}}}{SOURCES};"
    # how a command is given several files as one argument
    " lines() {{ printf '%s\\n' \"$@\"; }}; "
)


wildcard_constraints:
    dataset="|".join(map(re.escape, PLAN.config.datasets)),
    prior="|".join(map(re.escape, [*PLAN.config.priors, "none"])),
    vae="|".join(map(re.escape, [*PLAN.config.priors, "none"])),
    view="[A-Za-z0-9._-]+",
    method="[A-Za-z0-9._-]+",
    embedding="[a-z]+-[0-9a-f]{6}",
    fit="[a-z]+-[0-9a-f]{6}",
    discovery="[a-z]+-[0-9a-f]{6}",
    tangents="tangents-[0-9a-f]{6}",
    candidates="candidates-[0-9a-f]{6}",
    inversion="inversion-[0-9a-f]{6}",
    scoring="typicality-[0-9a-f]{6}",
    patching="(typical|sure)-[0-9a-f]{6}",
    start="gaussian-[0-9a-f]{6}",
    split="train|test",
    shard=r"\d+",
    ipc=r"\d+|all",
    seed=r"\d+",
    teacher="[A-Za-z0-9._-]+",
    extractor="|".join(map(re.escape, PLAN.config.extractor_names)),
    protocol="[A-Za-z0-9._-]+",
    repeat=r"\d+",
    student="[A-Za-z0-9._-]+",
    paper="[a-z0-9]+",
    table="[A-Za-z0-9]+",


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/priors.smk"
include: "rules/discovery.smk"
include: "rules/patches.smk"
include: "rules/generation.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


rule all:
    default_target: True
    input:
        PLAN.targets(),


onstart:
    if workflow.is_main_process:
        if not workflow.storage_settings.default_storage_provider:
            try:
                check_writable(Path(R))
            except LimbeckError as error:
                raise WorkflowError(str(error)) from None
        if left := commit.sweep(R):
            print(
                f"limbeck: removed {len(left)} temporaries that killed jobs had left",
                file=sys.stderr,
            )
        # jobs of other machines, and of another Python, start by themselves
        if workflow.local_exec:
            warm.start()
