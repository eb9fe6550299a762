"""A run of the pipeline on a real Slurm of two nodes: same bytes, GPUs where they belong, more memory after a kill, resumption."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from limbeck import resources, warm
from tests.cluster import slurm
from tests.conftest import ROOT, Workflow, make_workflow, write_small

pytestmark = pytest.mark.long
# 0: skipped; 1: run where it can be; required: an error where it cannot
WANTED = os.environ.get("LIMBECK_SLURM") or "0"
STAGE = "encode"  # the rule whose jobs are watched: on a GPU, behind others
Job = dict[str, str]
# a python that jobs find first; before that stage's work it does something else
WRAPPER = """#!/bin/bash
case " $* " in *" {stage} "*) {before} ;; esac
exec {python} "$@"
"""
# holds what the second attempt may have and the first may not
HUNGRY = "{python} -c 'held = bytearray({mb} << 20); import time; time.sleep(6)'"
SLOW = "exec sleep 900"
# what a site's copy of the profile sets: no accounting database, a model of GPU. The plugin looks at its jobs after so many seconds
# and, as long as none has ended, after ten more each time: most jobs take less than the first
SITE = {"slurm-status-command": "squeue", "slurm-init-seconds-before-status-checks": 10, "latency-wait": 10}
SAMPLING = {"slurm_partition": "gpu", "gpu": 2, "gpu_model": "h200"}
OPTIONS = yaml.safe_load((ROOT / "profiles/slurm/config.yaml").read_text())
# the clause of TresPerJob by rule, of all that the profile sends to GPUs
GPUS = dict.fromkeys(OPTIONS["set-resources"], "gres:gpu:1") | {"sample": "gres:gpu:h200:2"}


@dataclass
class Finished:
    """Two runs on Slurm, the first of which was interrupted, and what the cluster says of their jobs."""

    flow: Workflow
    local: Workflow
    running: list[Job] = field(default_factory=list)  # jobs right before the interruption
    interrupted: list[Job] = field(default_factory=list)  # and when all had ended
    jobs: list[Job] = field(default_factory=list)  # of both runs
    said: str = ""  # by the first
    killed: set[str] = field(default_factory=set)  # ids of jobs that Slurm ended for their memory


def ids(jobs: list[Job]) -> set[str]:
    return {job["JobId"] for job in jobs}


def read(log: str) -> str:
    """A job's log; empty where it never began."""
    return Path(log).read_text() if Path(log).exists() else ""


def benchmark(folder: Path, prior: Path) -> Workflow:
    """The embedded benchmark, a tenth of it, with real images, some of them chosen in a UMAP, and guided ones."""
    folder.mkdir()
    write_small(folder / "small.npz")
    dataset = {"source": "npz", "path": str(folder / "small.npz"), "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
    run = {"datasets": ["small"], "ipc": [2], "methods": ["random", "coda_real", "mgd"], "references": [], "repeats": 1}
    run |= {"held_out": 0, "prior": "tiny", "protocols": ["smoke"], "teacher": "smoke"}
    return make_workflow(folder, prior, run=run, datasets={"small": dataset})


@contextmanager
def snakemake(flow: Workflow, cluster: slurm.Slurm, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Snakemake under a site's copy of the repository's profile; it is killed where it has not ended."""
    config, profile = flow.folder / "overlay.yaml", flow.folder / "profile"
    config.write_text(yaml.safe_dump(flow.overlay, sort_keys=False))
    options = OPTIONS | SITE | {"set-resources": OPTIONS["set-resources"] | {"sample": SAMPLING}}
    profile.mkdir(exist_ok=True)
    (profile / "config.yaml").write_text(yaml.safe_dump(options))
    # as from a terminal: a shell starts what runs in its background with interruptions ignored
    command = ["env", "--default-signal=INT", sys.executable, "-m", "snakemake"]
    command += ["-s", str(ROOT / "Snakefile"), "--directory", str(flow.folder)]
    command += ["--workflow-profile", str(profile), "--configfile", str(ROOT / "config.yaml"), str(config)]
    with open(log, "wb") as out:
        process = subprocess.Popen(
            command,
            cwd=flow.folder,
            env=flow.env | cluster.environment,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        send(process, signal.SIGKILL)
        process.wait()


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To Snakemake and what it has started, as a terminal does."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def until(what: Callable[[], object], seconds: float, log: Path) -> None:
    """Wait for it; where it takes too long, an error with the log."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"after {seconds} s: {log.read_text()[-4000:]}"
        time.sleep(0.2)


def interrupt(process: subprocess.Popen[bytes], log: Path, cluster: slurm.Slurm) -> None:
    """Stop a run at once, as docs/CLUSTER.md has it."""
    send(process, signal.SIGINT)
    until(lambda: "Terminating processes" in log.read_text() or process.poll() is not None, 120, log)
    send(process, signal.SIGINT)
    until(lambda: process.poll() is not None, 120, log)
    run = re.search(r"SLURM run ID: (\S+)", log.read_text())[1]
    assert {run} >= set(cluster.queued())
    subprocess.run(["scancel", f"--name={run}"], check=True)
    until(lambda: not cluster.queued(), 120, log)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Finished:
    """A run that is interrupted at its first GPU job and started again, one job of which is killed for its memory."""
    # not when tests are collected, which every worker does
    if reason := "LIMBECK_SLURM is not set (make test-cluster)" if WANTED == "0" else slurm.impossible():
        (pytest.fail if WANTED == "required" else pytest.skip)(reason)
    folder = tmp_path_factory.mktemp("cluster")
    local = benchmark(folder / "local", tiny_prior)
    flow = benchmark(folder / "slurm", tiny_prior)
    found = Finished(flow, local)
    slow = wrap(folder / "slow", SLOW, flow)
    hungry = wrap(folder / "hungry", HUNGRY.format(python=sys.executable, mb=round(1.3 * asked(flow))), flow)
    with ThreadPoolExecutor(1) as pool, slurm.running() as cluster:
        building = pool.submit(local.build)  # beside the other, which mostly waits for the scheduler
        with snakemake(slow, cluster, log := folder / "first.log") as first:
            until(lambda: running(cluster.jobs(), STAGE) or first.poll() is not None, 600, log)
            assert first.poll() is None, log.read_text()[-4000:]
            found.running = cluster.jobs()
            interrupt(first, log, cluster)
            found.interrupted, found.said = cluster.jobs(), log.read_text()
        with snakemake(hungry, cluster, log := folder / "second.log") as second:
            until(lambda: second.poll() is not None, 1500, log)
            assert second.poll() == 0, log.read_text()[-6000:] + cluster.log()[-6000:]
            found.jobs, found.killed = cluster.jobs(), cluster.killed()
        building.result()
    return found


def wrap(prefix: Path, before: str, flow: Workflow) -> Workflow:
    """The same folder and results; jobs of the stage begin with a command in bash."""
    (prefix / "bin").mkdir(parents=True)
    script = prefix / "bin/python"
    script.write_text(WRAPPER.format(stage=STAGE, before=before, python=sys.executable))
    script.chmod(0o755)
    wrapped = copy(flow)
    # a job is a process of its own, as on another machine
    wrapped.env = flow.env | {"CONDA_PREFIX": str(prefix), warm.VARIABLE: ""}
    return wrapped


def asked(flow: Workflow) -> int:
    """Megabytes of a watched job by its formula."""
    return resources.memory_mb(flow.plan(), STAGE, {"dataset": "small", "view": "v32", "vae": "tiny", "shard": "0"})


def rule_of(job: Job) -> str:
    """By the plugin's comment: the rule, and of jobs sent as one the group too, which has the same name."""
    return re.match(r"rule_(.+?)(_wildcards_.*)?$", job["Comment"])[1]


def of(jobs: list[Job], rule: str) -> list[Job]:
    """A rule's jobs in the order that they were sent in."""
    return sorted((job for job in jobs if rule_of(job) == rule), key=lambda job: int(job["JobId"]))


def running(jobs: list[Job], rule: str) -> list[Job]:
    return [job for job in of(jobs, rule) if job["JobState"] == "RUNNING"]


def memory(job: Job) -> int:
    """Megabytes that a job has asked for."""
    return int(re.search(r"mem=(\d+)M", job["TRES"])[1])


def digests(flow: Workflow) -> dict[str, str]:
    """Of all artifacts and results: what may not depend on where it was made, as seconds do."""
    files = [
        *flow.results.rglob("*.zarr.zip"),
        *flow.results.rglob("*.json"),
        *flow.results.rglob("*.csv"),
        *flow.results.rglob("*.png"),
        *flow.results.rglob("*.md"),
        *flow.results.rglob("*.safetensors"),
    ]
    files = [file for file in files if not file.name.endswith(".prov.json")]
    return {str(file.relative_to(flow.results)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_bytes_as_a_local_run(finished):
    """Whose jobs are forks of a server, too."""
    here, there = digests(finished.local), digests(finished.flow)
    assert len(here) > 20
    assert there == here


def test_rules_that_a_gpu_makes_faster_reach_the_gpu_partition(finished):
    got = {(rule_of(job), job["Partition"], job.get("TresPerJob")) for job in finished.jobs}
    rules = {rule for rule, _, _ in got}
    assert rules >= {"prior_dit", "encode", "teacher", "features", "sample", "embed", "train"}  # with a network
    assert rules >= {"ingest", "reduce", "report"}  # without
    assert got == {(rule, "gpu" if rule in GPUS else "cpu", GPUS.get(rule)) for rule in rules}
    nodes = {(job["Partition"], job["NodeList"]) for job in finished.jobs if job["JobState"] == "COMPLETED"}
    assert nodes == {("cpu", "n1"), ("gpu", "n2")}


def test_jobs_ask_for_what_their_formulas_say(finished):
    plan = finished.flow.plan()
    w = {"dataset": "small", "ipc": "2"}
    (report,) = of(finished.jobs, "report")
    assert f"mem={resources.memory_mb(plan, 'report', w)}M" in report["TRES"]
    assert report["TimeLimit"] == f"00:{resources.runtime_min(plan, 'report', w):02}:00"


def test_a_job_killed_for_its_memory_is_sent_again_with_twice_as_much(finished):
    killed, again = (job for job in of(finished.jobs, STAGE) if job["JobId"] not in ids(finished.interrupted))
    assert finished.killed == {killed["JobId"]}
    assert (killed["JobState"], again["JobState"]) == ("FAILED", "COMPLETED")
    assert (memory(killed), memory(again)) == (asked(finished.flow), 2 * asked(finished.flow))


def test_an_interrupted_run_leaves_no_job_and_goes_on_from_what_is_done(finished):
    states = {job["JobId"]: job["JobState"] for job in finished.interrupted}
    sent = dict(re.findall(r"Job (\d+) has been submitted with SLURM jobid (\d+)", finished.said))
    done = {sent[job] for job in re.findall(r"Finished jobid: (\d+)", finished.said)}
    assert {states[job] for job in done} == {"COMPLETED"}
    assert {states[job] for job in ids(running(finished.running, STAGE))} == {"CANCELLED"}
    assert set(states.values()) == {"COMPLETED", "CANCELLED"}
    again = {job["Comment"] for job in finished.jobs if job["JobId"] not in states}
    before = {job["Comment"] for job in finished.interrupted if job["JobId"] in done}
    assert {"rule_ingest_wildcards_small_v32_train_0", "rule_prior_dit_wildcards_tiny"} <= before
    assert not before & again
    cancelled = {job["JobId"]: job["Comment"] for job in finished.interrupted if states[job["JobId"]] == "CANCELLED"}
    # one may have done its work when it is cancelled, as Snakemake says inside the job; whether it runs again is then all the same
    logs = dict(re.findall(r"submitted with SLURM jobid (\d+) \(log: (\S+)\)", finished.said))
    worked = {job for job in cancelled if "Finished jobid: 0 " in read(logs[job])}
    assert not worked & ids(running(finished.running, STAGE))
    assert {comment for job, comment in cancelled.items() if job not in worked} <= again


def test_umap_has_two_cores_of_a_node(finished):
    """On two cores of one machine it has one: they are rarely free at once."""
    jobs = [job for job in of(finished.jobs, "reduce") if "umap" in job["Comment"]]  # the page's plane is by PCA, on one
    assert {job["JobState"] for job in jobs} - {"CANCELLED"} == {"COMPLETED"}  # the interruption may have met it
    assert all("cpu=2," in job["TRES"] for job in jobs)


def test_jobs_of_seconds_share_one(finished):
    for rule in ("select", "pngs", "measure"):  # of several methods
        (job,) = (job for job in finished.jobs if job["Comment"] == f"rule_{rule}_{rule}")
        assert job["JobState"] == "COMPLETED"
        assert not of(finished.jobs, rule)
