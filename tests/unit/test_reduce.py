"""Classes in worker processes: the same bytes, the same messages, no orphans."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from limbeck.artifacts import EMBEDDING, LATENTS
from limbeck.discovery.embedding import reduce
from limbeck.errors import LimbeckError
from limbeck.stages.common import in_order
from limbeck.stages.reduce import run
from limbeck.store import Artifact, create
from tests.workers import fail_at_2, slow_first

ROOT = Path(__file__).parents[2]
OPTIONS = {"reducer": "pca", "components": 3, "n_neighbors": 10, "min_dist": 0.0, "standardize": True}


def write_latents(path, sizes):
    n = sum(sizes)
    names = [f"class-{i}" for i in range(len(sizes))]
    with create(
        path, LATENTS, {"latents": (n, 2, 4, 4), "labels": (n,)}, {}, {}, classes=names, class_range=[0, len(sizes)]
    ) as out:
        out.append("latents", np.random.default_rng(0).normal(size=(n, 2, 4, 4)))
        out.append("labels", np.repeat(np.arange(len(sizes)), sizes))
    return path


def jobs(*arguments):
    return [(f"class {x!r}", (*arguments, x)) for x in range(12)]


def test_results_come_in_order_from_as_many_processes_as_asked_for():
    values, processes = zip(*in_order(slow_first, jobs(), 2), strict=True)
    assert values == tuple(range(12))
    assert len(set(processes)) == 2
    assert os.getpid() not in processes


@pytest.mark.parametrize(("count", "workers"), [(12, 1), (1, 2)])
def test_one_class_or_one_worker_needs_no_process(count, workers):
    assert {pid for _, pid in in_order(slow_first, jobs()[-count:], workers)} == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_value_error_becomes_one_line_that_names_the_class(workers):
    with pytest.raises(LimbeckError, match=r"^class 2: two$"):
        list(in_order(fail_at_2, jobs("value"), workers))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_bug_keeps_its_type_and_names_the_class(workers):
    with pytest.raises(KeyError) as caught:
        list(in_order(fail_at_2, jobs("other"), workers))
    assert caught.value.__notes__ == ["class 2"]


def test_a_killed_worker_is_an_error():
    with pytest.raises(LimbeckError, match=r"^class \d, or one beside it: its worker process was killed"):
        list(in_order(fail_at_2, jobs("killed"), 2))


@pytest.mark.long
def test_workers_die_with_a_killed_parent(tmp_path):
    code = (
        "from pathlib import Path\n"
        "from limbeck.stages.common import in_order\n"
        "from tests.workers import write_pid_and_wait\n"
        f"list(in_order(write_pid_and_wait, [(str(x), (Path({str(tmp_path)!r}), x)) for x in (0, 1)], 2))"
    )
    files = [tmp_path / "0.pid", tmp_path / "1.pid"]
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) as parent:
        try:
            wait_until(lambda: all(file.exists() and file.read_text() for file in files))
        finally:
            parent.kill()
    workers = [int(file.read_text()) for file in files]
    wait_until(lambda: not any(map(running, workers)))
    assert [pid for pid in workers if running(pid)] == []


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # nobody may collect an orphan
    except psutil.NoSuchProcess:
        return False


def wait_until(true):
    deadline = time.monotonic() + 300
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# The stage.


def test_workers_change_no_byte_of_a_linear_embedding(tmp_path):
    latents = write_latents(tmp_path / "latents.zarr.zip", [20, 8, 30])
    one, two = tmp_path / "one.zarr.zip", tmp_path / "two.zarr.zip"
    run({"embedding": OPTIONS}, latents, one)
    run({"embedding": OPTIONS}, latents, two, workers=2)
    assert one.read_bytes() == two.read_bytes()
    with Artifact(latents) as source, Artifact(two, EMBEDDING) as found:
        points = source["latents"].reshape(-1, 32).astype(np.float32)
        for c, rows in enumerate((slice(0, 20), slice(20, 28), slice(28, 58))):
            own = reduce(points[rows], OPTIONS, c)
            assert np.array_equal(found["coordinates"][rows], own.coordinates.astype(np.float32))
            assert np.array_equal(found["axes"][c], own.axes.astype(np.float32))


def test_a_workers_warning_and_error_name_their_class(tmp_path, capfd):
    """UMAP does not take 4 images, and refuses a neighbourhood of 1."""
    latents = write_latents(tmp_path / "latents.zarr.zip", [4, 9])
    with pytest.raises(LimbeckError, match=r"^class 'class-1': n_neighbors must be greater than 1"):
        run({"embedding": OPTIONS | {"reducer": "umap", "n_neighbors": 1}}, latents, tmp_path / "embedding.zarr.zip", workers=2)
    assert "warning: class 'class-0' 4 images are too few for UMAP: PCA instead" in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["latents.zarr.zip"]


@pytest.mark.long
def test_workers_change_no_byte_of_umap(tmp_path):
    """As a command, with a note in the log."""
    latents = write_latents(tmp_path / "latents.zarr.zip", [40, 8, 30])
    spec = json.dumps({"embedding": OPTIONS | {"reducer": "umap"}, "code": "x"})
    for workers in ("1", "2"):
        out, log = tmp_path / f"{workers}.zarr.zip", tmp_path / f"{workers}.log"
        files = ["--points", str(latents), "--embedding", str(out), "--prov", str(tmp_path / "prov.json"), "--workers", workers]
        command = [sys.executable, "-m", "limbeck", "--threads", "1", "--log", str(log), "reduce", "--spec", spec, *files]
        subprocess.run(command, check=True)
        assert "warning: class 'class-1' has 8 images: n_neighbors 10 capped at 7" in log.read_text()
    assert (tmp_path / "1.zarr.zip").read_bytes() == (tmp_path / "2.zarr.zip").read_bytes()
