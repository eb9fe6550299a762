"""Artifacts, written and read."""

import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np

from benchmarks.cases.base import SEED, Case


class _Files:
    """A folder that goes with it, and features to store there."""

    def __init__(self, rows: int):
        self.folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder)
        self.values = np.random.default_rng(SEED).normal(size=(rows, 512)).astype(np.float32)

    def at(self, name: str) -> Path:
        return self.folder / name

    def write(self) -> None:
        """As an artifact."""
        from limbeck.artifacts import FEATURES
        from limbeck.store import create

        shapes = {"features": self.values.shape, "labels": self.values.shape[:1]}
        with create(self.at("x.zarr.zip"), FEATURES, shapes, {}, {}) as out:
            out.append("features", self.values)
            out.append("labels", np.zeros(len(self.values)))

    def read(self) -> np.ndarray:
        """From the artifact."""
        from limbeck.artifacts import FEATURES
        from limbeck.store import Artifact

        with Artifact(self.at("x.zarr.zip"), FEATURES) as found:
            return found["features"]


def write(rows: int) -> Case:
    """An artifact of features of 512 numbers, with labels, hashes and an atomic rename, beside NumPy's plain file of them."""
    files = _Files(rows)
    plain = lambda: np.save(files.at("x.npy"), files.values)  # noqa: E731
    same = lambda *_: np.array_equal(files.read(), np.load(files.at("x.npy")))  # noqa: E731
    return Case(files.write, plain, "np.save", same, 0.0, 2.0 * files.values.nbytes)


def read(rows: int) -> Case:
    """The same artifact, beside NumPy's file."""
    files = _Files(rows)
    files.write()
    np.save(files.at("x.npy"), files.values)
    return Case(files.read, lambda: np.load(files.at("x.npy")), "np.load", np.array_equal, 0.0, 2.0 * files.values.nbytes)
