"""A run of the pipeline on a real Slurm of two nodes: same bytes, GPUs where they belong, more memory after a kill, resumption."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from limbeck import resources
from tests.cluster import slurm
from tests.conftest import ROOT, Workflow, make_workflow, write_small

pytestmark = pytest.mark.long
# 0: skipped; 1: run where it can be; required: an error where it cannot
WANTED = os.environ.get("LIMBECK_SLURM", "0")
HUNGRY = "encode"  # the rule whose first job takes more memory than it asks for
# holds what the second attempt may have and the first may not, then is the job
Job = dict[str, str]
WRAPPER = """#!/bin/bash
case " $* " in *" {stage} "*) {python} -c 'held = bytearray({mb} << 20); import time; time.sleep(4)' ;; esac
exec {warm}/bin/python "$@"
"""
# what a site's copy of the profile sets: no accounting database, a model of GPU
SITE = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 1, "latency-wait": 10}
SAMPLING = {"slurm_partition": "gpu", "gpu": 2, "gpu_model": "h200"}


@dataclass
class Finished:
    """Two runs on Slurm, the first of which was interrupted, and what the cluster says of their jobs."""

    flow: Workflow
    local: Workflow
    interrupted: list[Job] = field(default_factory=list)  # right before it
    queued: str = ""  # behind it
    jobs: list[Job] = field(default_factory=list)  # of both runs
    said: str = ""  # by the second


def ids(jobs: list[Job]) -> set[str]:
    return {job["JobId"] for job in jobs}


def benchmark(folder: Path, prior: Path) -> Workflow:
    """The embedded benchmark, a tenth of it, with a real, a generated and a guided method."""
    folder.mkdir()
    write_small(folder / "small.npz")
    dataset = {"source": "npz", "path": str(folder / "small.npz"), "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
    run = {"datasets": ["small"], "ipc": [2], "methods": ["random", "mgd"], "references": [], "repeats": 1, "held_out": 0}
    run |= {"prior": "tiny", "protocols": ["smoke"], "teacher": "smoke"}
    return make_workflow(folder, prior, run=run, datasets={"small": dataset})


def start(flow: Workflow, log: Path) -> subprocess.Popen[bytes]:
    """Snakemake under a site's copy of the repository's profile."""
    config, profile = flow.folder / "overlay.yaml", flow.folder / "profile"
    config.write_text(yaml.safe_dump(flow.overlay, sort_keys=False))
    options = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text()) | SITE
    options["set-resources"]["sample"] = SAMPLING
    profile.mkdir(exist_ok=True)
    (profile / "config.yaml").write_text(yaml.safe_dump(options))
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(flow.folder)]
    command += ["--workflow-profile", str(profile), "--configfile", str(ROOT / "config.yaml"), str(config)]
    with open(log, "wb") as out:
        return subprocess.Popen(
            command, cwd=flow.folder, env=flow.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )


def until(what, seconds: float, process: subprocess.Popen[bytes], log: Path):
    """The first true answer of ``what``; a run that ends before, or takes too long, is an error with its log."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        if found := what():
            return found
        time.sleep(0.2)
    raise AssertionError(f"status {process.poll()}: {log.read_text()[-4000:]}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Finished:
    """A run that is interrupted at its first GPU job and started again, one job of which is killed for its memory."""
    # not when tests are collected, which every worker does
    if reason := "LIMBECK_SLURM is not set to 1" if WANTED == "0" else slurm.impossible():
        (pytest.fail if WANTED == "required" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("cluster")
    local = benchmark(folder / "local", tiny_prior)
    flow = benchmark(folder / "slurm", tiny_prior)
    found = Finished(flow, local)
    asked = resources.memory_mb(flow.plan(), HUNGRY, {"dataset": "small", "view": "v32", "vae": "tiny", "shard": "0"})
    wrapper = folder / "hungry/bin/python"
    wrapper.parent.mkdir(parents=True)
    wrapper.write_text(WRAPPER.format(stage=HUNGRY, python=sys.executable, mb=round(1.3 * asked), warm=flow.env["CONDA_PREFIX"]))
    wrapper.chmod(0o755)
    flow.env["CONDA_PREFIX"] = str(folder / "hungry")
    with ThreadPoolExecutor(1) as pool, slurm.running() as cluster:
        building = pool.submit(local.build)  # beside the other, which mostly waits for the scheduler
        first = start(flow, log := folder / "first.log")
        until(lambda: running(cluster.jobs(), HUNGRY), 120, first, log)
        found.interrupted = cluster.jobs()
        os.killpg(first.pid, signal.SIGINT)
        first.wait(60)
        found.queued = subprocess.run(["squeue", "-h", "-t", "PD,R"], capture_output=True, text=True, check=True).stdout
        second = start(flow, log := folder / "second.log")
        status = second.wait(300)
        found.jobs, found.said = cluster.jobs(), log.read_text()
        assert status == 0, found.said[-6000:] + cluster.log()
        building.result()
    return found


def of(jobs: list[Job], rule: str) -> list[Job]:
    """A rule's jobs in the order that they were sent in."""
    found = [job for job in jobs if re.match(rf"rule_{rule}(_wildcards_|$)", job["Comment"])]
    return sorted(found, key=lambda job: int(job["JobId"]))


def running(jobs: list[Job], rule: str) -> list[Job]:
    return [job for job in of(jobs, rule) if job["JobState"] == "RUNNING"]


def memory(job: Job) -> int:
    """Megabytes that a job has asked for."""
    return int(re.search(r"mem=(\d+)M", job["TRES"])[1])


def digests(flow: Workflow) -> dict[str, str]:
    """Of all artifacts and results: what may not depend on where it was made."""
    files = [
        *flow.results.rglob("*.zarr.zip"),
        *flow.results.rglob("*.json"),
        *flow.results.rglob("*.csv"),
        *flow.results.rglob("*.png"),
    ]
    files = [file for file in files if not file.name.endswith(".prov.json")]
    return {str(file.relative_to(flow.results)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_bytes_as_a_local_run(finished):
    here, there = digests(finished.local), digests(finished.flow)
    assert len(here) > 20
    assert there == here


def test_rules_that_a_gpu_makes_faster_reach_the_gpu_partition(finished):
    for rule, gpus in (("encode", "gres:gpu:1"), ("train", "gres:gpu:1"), ("sample", "gres:gpu:h200:2")):
        jobs = of(finished.jobs, rule)
        assert jobs, rule
        assert {(job["Partition"], job["TresPerJob"]) for job in jobs} == {("gpu", gpus)}
        assert {job["NodeList"] for job in jobs if job["JobState"] == "COMPLETED"} == {"n2"}
    for rule in ("ingest", "report"):
        jobs = of(finished.jobs, rule)
        assert {(job["Partition"], job["NodeList"], job.get("TresPerJob")) for job in jobs} == {("cpu", "n1", None)}, rule


def test_jobs_ask_for_what_their_formulas_say(finished):
    plan = finished.flow.plan()
    w = {"dataset": "small", "ipc": "2"}
    (report,) = of(finished.jobs, "report")
    assert f"mem={resources.memory_mb(plan, 'report', w)}M" in report["TRES"]
    assert report["TimeLimit"] == f"00:{resources.runtime_min(plan, 'report', w):02}:00"


def test_a_job_killed_for_its_memory_is_sent_again_with_twice_as_much(finished):
    killed, again = (job for job in of(finished.jobs, HUNGRY) if job["JobId"] not in ids(finished.interrupted))
    assert (killed["JobState"], again["JobState"]) == ("FAILED", "COMPLETED")
    assert memory(again) == 2 * memory(killed)


def test_an_interrupted_run_cancels_its_jobs_and_goes_on_from_what_is_done(finished):
    assert finished.queued == ""
    then = running(finished.interrupted, HUNGRY)
    assert {job["JobState"] for job in finished.jobs if job["JobId"] in ids(then)} == {"CANCELLED"}
    done = [job for job in finished.interrupted if job["JobState"] == "COMPLETED"]
    assert {"rule_ingest"} <= {job["Comment"].split("_wildcards")[0] for job in done}
    again = [job["Comment"] for job in finished.jobs if job["JobId"] not in ids(finished.interrupted)]
    assert not {job["Comment"] for job in done} & set(again)


def test_jobs_of_seconds_share_one(finished):
    for rule in ("select", "export", "measure"):  # of two methods
        (job,) = (job for job in finished.jobs if job["Comment"] == f"rule_{rule}_{rule}")
        assert job["JobState"] == "COMPLETED"
        assert not of(finished.jobs, rule)
