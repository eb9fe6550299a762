import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import FEATURES
from limbeck.commit import digest
from limbeck.differences import differences
from limbeck.errors import LimbeckError
from limbeck.records import sidecar_of, write_json, write_sidecar
from limbeck.store import create


def write(path: Path, features: np.ndarray, source: str = "aaa", **params: object) -> Path:
    n = len(features)
    shapes = {"features": features.shape, "labels": (n,), "correct": (n,)}
    with create(path, FEATURES, shapes, {"extractor": "teacher", **params}, {}, {"weights": "00"}, classes=["a"]) as out:
        out.append("features", features)
        out.append("labels", np.zeros(n))
        out.append("correct", np.zeros(n))
    write_sidecar(sidecar_of(path), {"source": source, "seconds": n}, {path: digest(path)})
    return path


def test_every_difference_is_named_and_no_other(tmp_path):
    rng = np.random.default_rng()
    features = rng.normal(size=(9, 3)).astype(np.float32)
    other = features.copy()
    other[4, 1] += 0.5
    other[7] -= 2
    a = write(tmp_path / "a.zarr.zip", features, seed=0, weights=[1, 2])
    b = write(tmp_path / "b.zarr.zip", other, source="bbb", seed=1, weights=[1, 3], top={"k": None})
    most = np.abs(features.astype(np.float64) - other).max()
    assert differences(a, b) == [
        ("params.seed", "0", "1"),
        ("params.top", "absent", '{"k": null}'),
        ("params.weights[1]", "2", "3"),
        ("features, values", "2 of 9 rows differ, the first is 4", f"by at most {most:.4g}"),
        ("made: source", "aaa", "bbb"),
    ]
    assert differences(a, a) == []
    longer = write(tmp_path / "c.zarr.zip", np.zeros((10, 3), np.float32), seed=0, weights=[1, 2])
    assert ("features, shape", "(9, 3)", "(10, 3)") in differences(a, longer)


def test_json_results_too_and_the_command_exits_with_one_where_they_differ(tmp_path):
    paths = [tmp_path / f"{name}.json" for name in "ab"]
    for path, fd in zip(paths, (1.5, 2.5), strict=True):
        write_json(path, "metrics", {"seed": 0}, {"fd_teacher": fd})
    assert differences(*paths) == [("results.fd_teacher", "1.5", "2.5")]
    command = [sys.executable, "-m", "limbeck", "diff"]
    done = subprocess.run([*command, *map(str, paths)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "results.fd_teacher" in done.stdout
    same = subprocess.run([*command, str(paths[0]), str(paths[0])], capture_output=True, text=True, check=False)
    assert (same.returncode, same.stdout) == (0, f"{paths[0]} and {paths[0]} are the same\n")


def test_other_files_are_refused(tmp_path):
    path = write(tmp_path / "a.zarr.zip", np.zeros((2, 2), np.float32))
    (tmp_path / "x.txt").write_text("no")
    for other, said in ((tmp_path / "x.txt", "different kinds"), (tmp_path / "none.zarr.zip", "no such artifact")):
        with pytest.raises(LimbeckError, match=said):
            differences(path, other)
    with pytest.raises(LimbeckError, match=r"x\.txt: damaged"):
        differences(tmp_path / "x.txt", tmp_path / "x.txt")
    write_json(tmp_path / "a.json", "metrics", {"seed": 0}, {"fd_teacher": 1.5})
    (tmp_path / "b.json").write_text((tmp_path / "a.json").read_text().replace("1.5", "1.6"))
    with pytest.raises(LimbeckError, match=r"b\.json: changed since it was written"):
        differences(tmp_path / "a.json", tmp_path / "b.json")
