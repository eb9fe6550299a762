"""What the pipeline asks of a labelled image set, wherever it lies."""

import functools
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from limbeck.config import Dataset
from limbeck.data.benchmarks import members
from limbeck.data.decoding import Raw
from limbeck.data.paths import package_path
from limbeck.errors import LimbeckError

SPLITS = ("train", "test")


class Source(ABC):
    """A labelled image set. ``labels(split)`` fixes the order of its images; nothing is decoded before it is asked for."""

    # whether images are best read in the source's own order, as where many lie together in a compressed block
    sequential = False

    def __init__(self, name: str, spec: Dataset):
        self.name = name
        self.path = package_path(spec.path)
        self.wanted = members(spec.classes) if spec.classes else None

    def fail(self, what: str) -> LimbeckError:
        """An error that names the dataset."""
        return LimbeckError(f"datasets.{self.name}: {what}")

    def aliases(self) -> Mapping[str, str]:
        """Other names by which a subset may ask for a class."""
        return {}

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names in canonical order."""

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """(N,) int64 class index of every image of a split."""

    @abstractmethod
    def raw(self, split: str, index: int) -> Raw:
        """Where one image lies; a ValueError says why it lies nowhere."""

    @abstractmethod
    def source_id(self, split: str, index: int) -> str:
        """Where that image came from, for people."""

    def stamp(self) -> str:
        """Changes when files were added to, removed from or replaced in the source; no file is opened."""
        return str(self.path.stat().st_mtime_ns)

    @functools.cache  # noqa: B019
    def counts(self, split: str) -> np.ndarray:
        """(C,) images per class, not to be written to; a class without images is an error."""
        counts = np.bincount(self.labels(split), minlength=len(self.classes))
        for name, count in zip(self.classes, counts, strict=True):
            if count == 0:
                raise self.fail(f"class {name!r} has no {split} images in {self.path}")
        counts.flags.writeable = False  # every caller has the same ones
        return counts


def stamped(paths: Iterable[str | Path]) -> str:
    """Changes with the number, the order and the times of these files and folders, as far as they are there."""
    times = (str(os.stat(path).st_mtime_ns) for path in paths if os.path.exists(path))
    return hashlib.sha256(" ".join(times).encode()).hexdigest()[:16]


def shard_classes(classes: int, shards: int) -> list[range]:
    """Contiguous whole classes per shard, as even as possible."""
    bounds = [round(i * classes / shards) for i in range(shards + 1)]
    return [range(a, b) for a, b in pairwise(bounds)]
