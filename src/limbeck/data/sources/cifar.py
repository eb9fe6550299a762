"""CIFAR-10 and CIFAR-100 as published: the Python version's pickles, read without running them, or the binary version."""

from pathlib import Path
from typing import Any

import numpy as np

from limbeck.config import Dataset
from limbeck.data.pickles import plain
from limbeck.data.sources.base import Source

PIXELS = 3 * 32 * 32
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
        self._labels: dict[str, np.ndarray] = {}
        self._images: dict[str, np.ndarray] = {}

    def _found(self) -> tuple[Path, dict[str, Any]]:
        below = sorted(entry for entry in self.path.iterdir() if entry.is_dir()) if self.path.is_dir() else []
        for folder in (self.path, *below):
            for mark, version in VERSIONS.items():
                if (folder / mark).is_file():
                    return folder, version
        raise self.fail(
            f"no CIFAR in {self.path}; unpack cifar-10-python.tar.gz, cifar-100-python.tar.gz or their binary versions there, "
            f"or set datasets.{self.name}.path"
        )

    def _bytes(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise self.fail(f"cannot read {path} ({error.strerror}); unpack the archive again") from None

    def _pickle(self, path: Path, *keys: bytes) -> list[Any]:
        try:
            content = plain(self._bytes(path))
            return [content[key] for key in keys]
        except (ValueError, KeyError, TypeError) as error:
            raise self.fail(f"{path} is not CIFAR's published file: {error}; unpack the archive again") from None

    def _names(self, path: Path, key: bytes | None) -> tuple[str, ...]:
        if key is None:
            return tuple(self._bytes(path).decode().split())
        return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in self._pickle(path, key)[0])

    def _batch(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """A file's rows (N, 3072) uint8, red, green and blue planes, and their labels."""
        how = self._version["labels"]
        if isinstance(how, bytes):
            rows, labels = self._pickle(path, b"data", how)
            rows, labels = np.asarray(rows), np.asarray(labels, np.int64)
        else:
            at, extra = how
            content = np.frombuffer(self._bytes(path), np.uint8)
            if content.size == 0 or content.size % (extra + PIXELS):
                raise self.fail(f"{path} is no whole number of images of {extra + PIXELS} bytes; unpack the archive again")
            content = content.reshape(-1, extra + PIXELS)
            rows, labels = content[:, extra:], content[:, at].astype(np.int64)
        if rows.dtype != np.uint8 or rows.shape != (len(labels), PIXELS) or not len(labels) or labels.max() >= len(self._classes):
            raise self.fail(f"{path}: {rows.shape} {rows.dtype} images and {len(labels)} labels are not CIFAR's")
        return rows, labels

    def _read(self, split: str) -> None:
        if split not in self._labels:
            rows, labels = zip(*(self._batch(self._root / file) for file in self._version[split]), strict=True)
            self._images[split] = np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
            self._labels[split] = np.concatenate(labels)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def labels(self, split: str) -> np.ndarray:
        self._read(split)
        return self._labels[split]

    def raw(self, split: str, index: int) -> np.ndarray:
        self._read(split)
        return self._images[split][index]

    def source_id(self, split: str, index: int) -> str:  # noqa: ARG002
        return str(index)

    def stamp(self) -> str:
        files = (*self._version["train"], *self._version["test"])
        return " ".join(str((self._root / file).stat().st_mtime_ns) for file in files if (self._root / file).exists())
