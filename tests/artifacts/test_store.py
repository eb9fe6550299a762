import errno
import json
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck import store
from limbeck.artifacts import FEATURES, IMAGES, LATENTS
from limbeck.errors import ArtifactError
from limbeck.records import read_json, write_json
from limbeck.store import Artifact, create


def write(path: Path, n: int = 1200, dim: int = 700, blocks: tuple[int, ...] = (500,), params: dict | None = None) -> np.ndarray:
    """A features artifact of several chunks, appended in blocks of the given sizes in turn."""
    features = np.random.default_rng(5).normal(size=(n, dim)).astype(np.float32)
    labels = np.arange(n) % 7
    shapes = {"features": features.shape, "labels": (n,), "correct": (n,)}
    with create(path, FEATURES, shapes, params or {"extractor": "teacher"}, {}, classes=["a"]) as out:
        start, turn = 0, 0
        while start < n:
            stop = min(n, start + blocks[turn % len(blocks)])
            out.append("features", features[start:stop])
            start, turn = stop, turn + 1
        out.append("labels", labels)
        out.append("correct", labels == 1)
    return features


def test_round_trip_and_partial_reads(tmp_path):
    features = write(tmp_path / "a.zarr.zip")
    with Artifact(tmp_path / "a.zarr.zip", FEATURES) as found:
        assert len(found) == 1200
        assert np.array_equal(found["features"], features)
        assert np.array_equal(found.read("features", 170, 530), features[170:530])
        assert found.attrs["params"] == {"extractor": "teacher"}
        assert found.group["features"].metadata.dimension_names == ("image", "feature")
        assert found.group["features"].chunks[0] * 700 * 4 <= store.CHUNK_BYTES


@given(st.lists(st.integers(1, 700), min_size=1, max_size=5))
@settings(max_examples=10, deadline=None)
def test_identical_content_gives_identical_bytes_however_it_was_appended(tmp_path_factory, blocks):
    folder = tmp_path_factory.mktemp("bytes")
    write(folder / "a.zarr.zip")
    write(folder / "b.zarr.zip", blocks=tuple(blocks))
    assert (folder / "a.zarr.zip").read_bytes() == (folder / "b.zarr.zip").read_bytes()


def test_no_entry_carries_the_time(tmp_path):
    write(tmp_path / "a.zarr.zip")
    with zipfile.ZipFile(tmp_path / "a.zarr.zip") as file:
        assert {entry.date_time for entry in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("failure", ["error", "short", "long", "nan", "range"])
def test_a_failed_write_leaves_nothing_and_keeps_the_old(tmp_path, failure):
    path = tmp_path / "a.zarr.zip"
    write(path)
    before = path.read_bytes()
    rows = np.zeros((4, 3), np.float32)
    if failure == "nan":
        rows[2, 1] = np.nan
    if failure == "range":
        rows[0, 0] = 1e9

    def attempt():
        with create(path, FEATURES, {"features": (4, 3), "labels": (4,), "correct": (4,)}, {}, {}) as out:
            out.append("features", rows[:3] if failure == "short" else rows)
            if failure == "long":
                out.append("features", rows)
            if failure == "error":
                raise RuntimeError("killed")
            out.append("labels", np.zeros(4))
            out.append("correct", np.zeros(4))

    with pytest.raises((ValueError, RuntimeError)):
        attempt()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


def test_every_flipped_byte_is_found(tmp_path):
    path = tmp_path / "a.zarr.zip"
    write(path, n=60, dim=40)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    silent = []
    for position in rng.choice(len(good), 250, replace=False):
        bad = bytearray(good)
        bad[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Artifact(path, FEATURES) as found:
                    found.verify()
                    same = store.digest(path) == store.digest(path) and found.attrs["params"] == {"extractor": "teacher"}
                    if not same:
                        silent.append(int(position))
                    if not np.array_equal(found["features"], write_reference()):
                        silent.append(int(position))
        except ArtifactError:
            continue
    assert silent == []


def write_reference() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(60, 40)).astype(np.float32)


def test_truncated_empty_and_missing_files_say_what_to_do(tmp_path):
    path = tmp_path / "a.zarr.zip"
    write(path)
    good = path.read_bytes()
    for content in (good[: len(good) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"a\.zarr\.zip.*rebuild it: snakemake --force"):
            Artifact(path, FEATURES)
    with pytest.raises(ArtifactError, match="no such artifact"):
        Artifact(tmp_path / "none.zarr.zip", FEATURES)


@pytest.mark.parametrize("change", ["drop", "rename", "add"])
def test_missing_or_foreign_entries_are_refused(tmp_path, change):
    """zarr itself would read a missing chunk as zeros."""
    path = tmp_path / "a.zarr.zip"
    write(path)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    if change in ("drop", "rename"):
        chunk = entries.pop("features/c/1/0")
        if change == "rename":
            entries["features/c/99/0"] = chunk
    else:
        entries["features/extra"] = b"x"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    with pytest.raises(ArtifactError, match="entries"):
        Artifact(path, FEATURES)


def test_another_schema_or_version_is_refused(tmp_path):
    path = tmp_path / "a.zarr.zip"
    write(path, n=5, dim=3)
    with pytest.raises(ArtifactError, match="features version 1, expected images version 1"):
        Artifact(path, IMAGES)
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    root = json.loads(entries["zarr.json"])
    root["attributes"]["version"] = 2
    entries["zarr.json"] = json.dumps(root).encode()
    with zipfile.ZipFile(path, "w") as file:
        for name, data in entries.items():
            file.writestr(name, data)
    with pytest.raises(ArtifactError, match="version 2"):
        Artifact(path)


def test_required_arrays_must_be_declared(tmp_path):
    with (
        pytest.raises(ValueError, match="labels"),
        create(tmp_path / "a.zarr.zip", LATENTS, {"latents": (1, 1, 1, 1)}, {}, {}),
    ):
        pass


def test_json_results_refuse_nan_and_other_schemas(tmp_path):
    path = tmp_path / "m.json"
    with pytest.raises(ValueError, match="Out of range"):
        write_json(path, "metrics", {}, {"fd": float("nan")})
    assert os.listdir(tmp_path) == []
    write_json(path, "metrics", {"a": 1}, {"fd": 1.0})
    assert read_json(path, "metrics") == {"fd": 1.0}
    with pytest.raises(ArtifactError, match="expected student"):
        read_json(path, "student")
    for text, message in ((path.read_text().replace('"fd": 1.0', '"fd": 1.5'), "changed since"), ("{", "damaged")):
        path.write_text(text)
        with pytest.raises(ArtifactError, match=message):
            read_json(path, "metrics")


def test_a_fault_of_the_machine_is_no_damage(tmp_path, monkeypatch):
    """Rebuilding would not help."""
    path = tmp_path / "a.zarr.zip"
    write(path, n=5, dim=3)

    def fails(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with Artifact(path, FEATURES) as found:
        monkeypatch.setattr(zipfile.ZipExtFile, "read", fails)
        with pytest.raises(OSError, match="Input/output error") as caught:
            found.read("features")
    assert caught.value.filename == str(path)
