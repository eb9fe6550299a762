"""CIFAR-10 and CIFAR-100 as published: the Python version's pickles, read without running them, or the binary version."""

import functools
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.config import Dataset
from limbeck.data.pickles import plain
from limbeck.data.sources.base import Source, stamped
from limbeck.errors import LimbeckError

PIXELS = 3 * 32 * 32
COUNTS = range(2, 101)  # of classes
FIVE = tuple(f"data_batch_{number}" for number in range(1, 6))
# by a file that only this version has: each split's files, the labels' key or their byte of a row's first ones, and the names
VERSIONS: dict[str, dict[str, Any]] = {
    "data_batch_1": {"train": FIVE, "test": ("test_batch",), "labels": b"labels", "names": ("batches.meta", b"label_names")},
    "train": {"train": ("train",), "test": ("test",), "labels": b"fine_labels", "names": ("meta", b"fine_label_names")},
    "data_batch_1.bin": {
        "train": tuple(f"{file}.bin" for file in FIVE),
        "test": ("test_batch.bin",),
        "labels": (0, 1),
        "names": ("batches.meta.txt", None),
    },
    "train.bin": {"train": ("train.bin",), "test": ("test.bin",), "labels": (1, 2), "names": ("fine_label_names.txt", None)},
}


class CifarSource(Source):
    """A folder with CIFAR-10's or CIFAR-100's published files (fine labels), or one that has their archive's folder in it."""

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        self._root, self._version = self._found()
        file, key = self._version["names"]
        self._classes = self._names(self._root / file, key)

    def _found(self) -> tuple[Path, dict[str, Any]]:
        below = sorted(entry for entry in self.path.iterdir() if entry.is_dir()) if self.path.is_dir() else []
        for folders in ([self.path], below):
            found = [(folder, v) for folder in folders for mark, v in VERSIONS.items() if (folder / mark).is_file()]
            if len(found) > 1:
                several = ", ".join(dict.fromkeys(str(folder) for folder, _ in found))
                raise self.fail(f"several sets lie in {several}; set datasets.{self.name}.path to the folder of one")
            if found:
                return found[0]
        raise self.fail(
            f"no CIFAR in {self.path}; unpack cifar-10-python.tar.gz, cifar-100-python.tar.gz or their binary versions there, "
            f"or set datasets.{self.name}.path"
        )

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.fail(f"cannot read {path} ({error.strerror}); unpack the archive again") from None

    def _names(self, path: Path, key: bytes | None) -> tuple[str, ...]:
        content = self._bytes(path)
        try:
            found = content.decode().split() if key is None else plain(content)[key]
            names = tuple(name.decode() if isinstance(name, bytes) else str(name) for name in found)
        except (ValueError, KeyError, TypeError) as error:
            raise self._not_published(path, error) from None
        if len(names) not in COUNTS:
            raise self._not_published(path, f"{len(names)} names")
        return names

    def _not_published(self, path: Path, why: object) -> LimbeckError:
        return self.fail(f"{path} is not CIFAR's published file: {why}; unpack the archive again")

    def _batch(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """A file's rows (N, 3072) uint8, red, green and blue planes, and their labels."""
        how, content = self._version["labels"], self._bytes(path)
        try:
            if isinstance(how, bytes):
                read = plain(content)
                rows, labels = np.asarray(read[b"data"]), np.asarray(read[how], np.int64)
            else:
                at, extra = how
                whole = np.frombuffer(content, np.uint8).reshape(-1, extra + PIXELS)
                rows, labels = whole[:, extra:], whole[:, at].astype(np.int64)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._not_published(path, " ".join(str(error).split())) from None
        if rows.dtype != np.uint8 or labels.ndim != 1 or rows.shape != (len(labels), PIXELS) or not len(labels):
            raise self._not_published(path, f"{rows.shape} {rows.dtype} images and {labels.shape} labels")
        if labels.min() < 0 or labels.max() >= len(self._classes):
            raise self._not_published(path, f"labels from {labels.min()} to {labels.max()} of {len(self._classes)} classes")
        return rows, labels

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @functools.cache  # noqa: B019
    def labels(self, split: str) -> np.ndarray:
        return np.concatenate([self._batch(self._root / file)[1] for file in self._version[split]])

    @functools.cache  # noqa: B019
    def _images(self, split: str) -> np.ndarray:
        rows = np.concatenate([self._batch(self._root / file)[0] for file in self._version[split]])
        return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    def raw(self, split: str, index: int) -> np.ndarray:
        return np.ascontiguousarray(self._images(split)[index])

    def source_id(self, split: str, index: int) -> str:  # noqa: ARG002
        return str(index)

    def stamp(self) -> str:
        return stamped(self._root / file for file in (*self._version["train"], *self._version["test"], self._version["names"][0]))
