"""A dry run of many shards over ImageNet's folders, of empty files: it has the jobs that shards, IPCs, seeds and methods make."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import planning
from limbeck.costs import disk

ROOT = Path(__file__).parents[2]
SHARDS = 8


def test_a_dry_run_of_many_shards_has_the_jobs_that_they_make(tmp_path):
    images = planning.tree(tmp_path / "imagenet", train=2, test=1)
    overlay = {
        "run": {"ipc": [1, 2], "seeds": [0], "methods": ["random", "mgd", "s3", "d3hr"], "references": []},
        "datasets": {"imagenet1k": {"shards": SHARDS}},
        "methods": {"s3": {"groups": 2}},
    }
    arguments = planning.arguments(tmp_path, images, overlay)
    command = [sys.executable, "-m", "snakemake", "--quiet", "rules", *arguments]
    env = {**os.environ, "HF_HUB_OFFLINE": "0"}  # the prior's name is enough here
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M)}
    cells = SHARDS * 2  # of a method
    # train and test images in the students' view, train in the prior's; features by the teacher of both, of train by S3's extractor
    assert (jobs["ingest"], jobs["encode"], jobs["features"]) == (3 * SHARDS, SHARDS, 3 * SHARDS)
    assert (jobs["select"], jobs["pick"], jobs["sample"]) == (2 * cells, cells, 2 * cells)
    assert (jobs["candidates"], jobs["keep"], jobs["choose"]) == (2 * cells, cells, 2)
    assert (jobs["report"], jobs["overview"], jobs["pngs"], jobs["train"]) == (2, 1, 8, 8 * 4)

    configs = [f"--configfile={path}" for path in arguments[arguments.index("--configfile") + 1 :]]
    table = [*configs, f"--json={tmp_path}/plan.json", "--cores=16", "--gpus=2"]
    done = subprocess.run(
        [sys.executable, "-m", "limbeck", "plan", *table], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "plan.json").read_text())
    assert {line["name"]: line["jobs"] for line in found["lines"]} | {"total": found["total"]["jobs"]} == jobs
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "NOT MEASURED HERE" in done.stdout
    lines = {line["name"]: line for line in found["lines"]}
    assert lines["sample"]["gpu_hours"] > 0 == lines["select"]["gpu_hours"]
    # of the papers' figures the run has D3HR's, and all of the inversion
    (inversion,) = found["printed"]
    assert (inversion["base"], inversion["jobs"], inversion["gpu_hours"]) == ("d3hr", SHARDS, lines["invert"]["gpu_hours"])
    assert found["makespan_hours"] >= max(found["critical_hours"], found["total"]["gpu_hours"] / 2)
    # pixels of both views, two images in train and one in test of every class, as zstd leaves them, and what every artifact has
    pixels = 1000 * 3 * (3 * 224**2 + 2 * 256**2) * disk.PIXELS[3]
    assert pixels < lines["ingest"]["disk_bytes"] < 1.05 * pixels


def test_a_target_that_nothing_makes_is_one_line():
    command = [sys.executable, "-m", "limbeck", "plan", "results/snark"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("limbeck: error: No rule to produce results/snark")
