"""A dry run of many shards over ImageNet's folders, of empty files: it has the jobs that shards, IPCs, seeds and methods make."""

import os
import re
import subprocess
import sys
from pathlib import Path

from benchmarks import planning

ROOT = Path(__file__).parents[2]
SHARDS = 20


def test_a_dry_run_of_many_shards_has_the_jobs_that_they_make(tmp_path):
    images = planning.tree(tmp_path / "imagenet", train=2, test=1)
    overlay = {
        "run": {"ipc": [1, 2], "seeds": [0], "methods": ["random", "mgd", "s3"], "references": []},
        "datasets": {"imagenet1k": {"shards": SHARDS}},
        "methods": {"s3": {"groups": 2}},
    }
    command = [sys.executable, "-m", "snakemake", "--quiet", "rules", *planning.arguments(tmp_path, images, overlay)]
    env = {**os.environ, "HF_HUB_OFFLINE": "0"}  # the prior's name is enough here
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    jobs = {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.M)}
    cells = SHARDS * 2  # of a method
    # train and test images in the students' view, train in the prior's; features by the teacher of both, of train by S3's extractor
    assert (jobs["ingest"], jobs["encode"], jobs["features"]) == (3 * SHARDS, SHARDS, 3 * SHARDS)
    assert (jobs["select"], jobs["pick"], jobs["sample"]) == (2 * cells, cells, cells)
    assert (jobs["candidates"], jobs["keep"], jobs["choose"]) == (2 * cells, cells, 2)
    assert (jobs["report"], jobs["export"], jobs["train"]) == (2, 6, 6 * 4)
