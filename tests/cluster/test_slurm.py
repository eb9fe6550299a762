"""A run of the pipeline on a real Slurm of two nodes: same bytes, GPUs where they belong, more memory after a kill, resumption."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from limbeck import resources
from tests.cluster import slurm
from tests.conftest import ROOT, Workflow, make_workflow, write_small

pytestmark = pytest.mark.long
REASON = slurm.impossible() if os.environ.get("LIMBECK_SLURM", "1") == "1" else "LIMBECK_SLURM=0"
HUNGRY = "encode"  # the rule whose first job takes more memory than it asks for
# holds what the second attempt may have and the first may not, then is the job
WRAPPER = """#!/bin/bash
case " $* " in *" {stage} "*) {python} -c 'held = bytearray({mb} << 20); import time; time.sleep(4)' ;; esac
exec {warm}/bin/python "$@"
"""
SITE = ["--slurm-status-command", "squeue", "--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10"]


@dataclass
class Finished:
    """What a run on Slurm left behind."""

    flow: Workflow
    local: Workflow
    jobs: list[dict[str, str]] = field(default_factory=list)
    cancelled: set[str] = field(default_factory=set)  # ids of jobs that ran when the run was interrupted
    done: set[str] = field(default_factory=set)  # rules that were done by then
    left: list[str] = field(default_factory=list)  # states in the queue behind it
    second: str = ""  # what the second run said

    def of(self, rule: str) -> list[dict[str, str]]:
        """A rule's jobs by their ids."""
        return [job for job in self.jobs if re.match(rf"rule_{rule}(_wildcards_|$)", job["Comment"])]


def benchmark(folder: Path, prior: Path) -> Workflow:
    """The embedded benchmark, a tenth of it, with a real, a generated and a guided method."""
    folder.mkdir()
    write_small(folder / "small.npz")
    dataset = {"source": "npz", "path": str(folder / "small.npz"), "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
    run = {"datasets": ["small"], "ipc": [2], "methods": ["random", "mgd"], "references": [], "repeats": 1, "held_out": 0}
    run |= {"prior": "tiny", "protocols": ["smoke"], "teacher": "smoke"}
    return make_workflow(folder, prior, run=run, datasets={"small": dataset})


def start(flow: Workflow, log: Path) -> subprocess.Popen[bytes]:
    """Snakemake under the repository's profile."""
    config = flow.folder / "overlay.yaml"
    config.write_text(yaml.safe_dump(flow.overlay, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(flow.folder)]
    command += ["--workflow-profile", str(ROOT / "profiles/slurm"), "--configfile", str(ROOT / "config.yaml"), str(config), *SITE]
    with open(log, "wb") as out:
        return subprocess.Popen(command, cwd=flow.folder, env=flow.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)


def until(what, seconds: float, process: subprocess.Popen[bytes], log: Path):
    """The first true answer of ``what``; a run that ends before, or takes too long, is an error with its log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"status {process.poll()}: {log.read_text()[-4000:]}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Iterator[Finished]:
    """A run that is interrupted at its first GPU job and started again, one job of which is killed for its memory."""
    if REASON:
        pytest.skip(REASON)
    folder = tmp_path_factory.mktemp("cluster")
    local = benchmark(folder / "local", tiny_prior)
    local.build()
    flow = benchmark(folder / "slurm", tiny_prior)
    found = Finished(flow, local)
    asked = resources.memory_mb(flow.plan(), HUNGRY, {"dataset": "small", "view": "v32", "vae": "tiny", "shard": "0"})
    wrapper = folder / "hungry/bin/python"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(WRAPPER.format(stage=HUNGRY, python=sys.executable, mb=round(1.3 * asked), warm=flow.env["CONDA_PREFIX"]))
    wrapper.chmod(0o755)
    flow.env["CONDA_PREFIX"] = str(folder / "hungry")
    with slurm.running() as cluster:
        first = start(flow, folder / "first.log")
        running = until(lambda: [j for j in cluster.rule_jobs(HUNGRY) if j["JobState"] == "RUNNING"], 120, first, folder / "first.log")
        found.done = {re.match(r"rule_([a-z_]+?)(_wildcards_|$)", j["Comment"])[1] for j in cluster.jobs() if j["JobState"] == "COMPLETED"}
        os.killpg(first.pid, signal.SIGINT)
        first.wait(60)
        found.cancelled = {job["JobId"] for job in running}
        queue = subprocess.run(["squeue", "-h", "-t", "PD,R", "-o", "%i %T"], capture_output=True, text=True, check=True).stdout
        found.left = queue.split("\n")[:-1]
        second = start(flow, folder / "second.log")
        assert second.wait(300) == 0, (folder / "second.log").read_text()[-6000:] + cluster.log()
        found.second = (folder / "second.log").read_text()
        found.jobs = cluster.jobs()
    yield found


def digests(flow: Workflow) -> dict[str, str]:
    """Of all artifacts and results: what may not depend on where it was made."""
    files = [*flow.results.rglob("*.zarr.zip"), *flow.results.rglob("*.json"), *flow.results.rglob("*.csv"), *flow.results.rglob("*.png")]
    files = [file for file in files if not file.name.endswith(".prov.json")]
    return {str(file.relative_to(flow.results)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_bytes_as_a_local_run(finished):
    here, there = digests(finished.local), digests(finished.flow)
    assert len(here) > 20
    assert there == here


def test_rules_that_a_gpu_makes_faster_reach_the_gpu_partition(finished):
    for rule in ("encode", "sample", "train", "teacher"):
        for job in finished.of(rule):
            assert (job["Partition"], job["TresPerJob"], job["NodeList"]) == ("gpu", "gres:gpu:1", "n2")
    for rule in ("ingest", "report"):
        for job in finished.of(rule):
            assert (job["Partition"], job["NodeList"]) == ("cpu", "n1")
            assert "TresPerJob" not in job


def test_a_job_killed_for_its_memory_is_sent_again_with_twice_as_much(finished):
    jobs = [job for job in finished.of(HUNGRY) if job["JobId"] not in finished.cancelled]
    assert [job["JobState"] for job in jobs] == ["FAILED", "COMPLETED"]
    asked = [int(re.search(r"mem=(\d+)M", job["TRES"])[1]) for job in jobs]
    assert asked[1] == 2 * asked[0]
