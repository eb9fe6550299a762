import os
import subprocess
import sys

import numpy as np
import pytest

from limbeck.artifacts import FEATURES
from limbeck.commit import digest
from limbeck.records import write_json, write_sidecar
from limbeck.store import create


def limbeck(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "limbeck", *arguments], capture_output=True, text=True, env={**os.environ, **env}, check=False
    )


@pytest.fixture
def artifact(tmp_path):
    path = tmp_path / "features.zarr.zip"
    with create(
        path, FEATURES, {"features": (3, 2), "labels": (3,), "correct": (3,)}, {"extractor": "teacher"}, {}, classes=["a", "b"]
    ) as out:
        out.append("features", np.arange(6).reshape(3, 2))
        out.append("labels", [0, 0, 1])
        out.append("correct", [1, 0, 1])
    write_sidecar(path.with_name("features.prov.json"), {"source": "abc123"}, {path: digest(path)})
    write_json(tmp_path / "metrics.json", "metrics", {}, {"fd_teacher": 1.5})
    return path


def test_show_prints_arrays_units_and_provenance(artifact):
    out = limbeck("show", str(artifact)).stdout
    for text in (
        "features",
        "image 3, feature 2",
        "float32",
        "extractor's own",
        "0 … 5",
        '"extractor": "teacher"',
        '"a", "b"',
        "abc123",
    ):
        assert text in out, text


def test_check_finds_damage_and_exits_with_one(artifact):
    good = limbeck("check", str(artifact.parent))
    assert (good.returncode, good.stdout) == (0, "3 files checked, 0 damaged\n")
    data = bytearray(artifact.read_bytes())
    data[len(data) // 3] ^= 4
    artifact.write_bytes(data)
    (artifact.parent / "metrics.json").write_text('{"schema": "metrics", "version": 1')
    bad = limbeck("check", str(artifact.parent))
    assert bad.returncode == 1
    lines = bad.stdout.splitlines()
    metrics = artifact.parent / "metrics.json"
    assert lines[0].startswith(f"{artifact}: unreadable (")
    assert lines[0].endswith(f"; rebuild it: snakemake --force {artifact}")
    assert lines[1].startswith(f"{metrics}: damaged (")
    assert lines[2:] == ["3 files checked, 2 damaged", f"rebuild them: snakemake --force {artifact} {metrics}"]


def test_user_errors_are_one_line(tmp_path):
    done = limbeck("show", str(tmp_path / "none.zarr.zip"))
    assert done.returncode == 1
    assert done.stderr == f"limbeck: error: {tmp_path}/none.zarr.zip: no such artifact\n"


def test_help_and_planning_import_nothing_heavy():
    code = (
        "import sys, limbeck.cli, limbeck.plan, limbeck.priors.files\n"
        "print([m for m in ('torch', 'diffusers', 'faiss', 'zarr', 'scipy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_threads_are_pinned_before_anything_heavy_is_imported():
    code = (
        "from limbeck import cli; cli._main(threads=1)\n"
        "import os, torch, faiss, threadpoolctl\n"
        "pools = {p['num_threads'] for p in threadpoolctl.threadpool_info()}\n"
        "print(torch.get_num_threads(), faiss.omp_get_max_threads(), os.environ['NUMBA_NUM_THREADS'], pools)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1 1 1 {1}\n"
