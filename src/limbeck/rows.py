"""Images of many shards as one array, read when they are asked for: training sets that are larger than memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")
HELD = 4 << 30  # bytes of a set that is better in memory
Resize = Callable[[np.ndarray, int], np.ndarray]
READERS = 4  # threads, and batches that are read ahead


class Rows:
    """(N, size, size, C) uint8 images of artifacts, in their order; indexed by slices and by arrays of rows.

    Parameters
    ----------
    resize: (images, size) -> images at that side, where they are stored at another.
    only: the rows that it consists of; all without.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        paths: Sequence[Path],
        name: str,
        size: int,
        resize: Callable[[np.ndarray, int], np.ndarray],
        only: np.ndarray | None = None,
    ):
        from limbeck.store import Artifact  # not where only HELD is asked for

        self.artifacts = [Artifact(path) for path in paths]
        self.name, self.size, self.resize, self.only = name, size, resize, only
        self.starts = np.cumsum([0, *(artifact.shape(name)[0] for artifact in self.artifacts)])
        count = int(self.starts[-1]) if only is None else len(only)
        self.shape = (count, size, size, self.artifacts[0].shape(name)[3])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | np.ndarray) -> np.ndarray:
        rows = np.arange(*wanted.indices(len(self))) if isinstance(wanted, slice) else wanted
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        if self.only is not None:
            rows = self.only[rows]
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shards):
            own = np.flatnonzero(shards == shard)
            out[own] = self.resize(self.artifacts[shard].take(self.name, rows[own] - self.starts[shard]), self.size)
        return out

    def of(self, rows: np.ndarray) -> "Rows":
        """Some of its rows."""
        only = rows if self.only is None else self.only[rows]
        return Rows([artifact.path for artifact in self.artifacts], self.name, self.size, self.resize, only)

    def at(self, size: int) -> "Rows":
        """The same at another side."""
        return Rows([artifact.path for artifact in self.artifacts], self.name, size, self.resize, self.only)


Images = np.ndarray | Rows


def ahead(images: Images, batches: Iterable[T], rows: Callable[[T], slice | np.ndarray]) -> Iterator[tuple[T, np.ndarray]]:
    """Every batch with the images that it names; those of the next ones are read meanwhile."""
    if isinstance(images, np.ndarray):
        yield from ((batch, images[rows(batch)]) for batch in batches)
        return
    with ThreadPoolExecutor(READERS, "rows") as pool:
        begun: deque = deque()
        for batch in batches:
            begun.append((batch, pool.submit(images.__getitem__, rows(batch))))
            if len(begun) > READERS:
                first, found = begun.popleft()
                yield first, found.result()
        for first, found in begun:
            yield first, found.result()
