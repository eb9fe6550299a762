"""Images of many shards as one array, read when they are asked for: training sets that are larger than memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

T = TypeVar("T")
HELD = 4 << 30  # bytes of a set that is better in memory
READERS = 4  # threads, and batches that are read ahead


class Rows:
    """(N, size, size, C) uint8 images of artifacts, in their order; indexed by slices and by arrays of rows.

    Parameters
    ----------
    resize: (images, size) -> images at that side, where they are stored at another.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, paths: Sequence[Path], name: str, size: int, resize: Callable[[np.ndarray, int], np.ndarray]):
        from limbeck.store import Artifact  # not where only HELD is asked for

        self.artifacts = [Artifact(path) for path in paths]
        self.name, self.size, self.resize = name, size, resize
        self.starts = np.cumsum([0, *(artifact.shape(name)[0] for artifact in self.artifacts)])
        self.shape = (int(self.starts[-1]), size, size, self.artifacts[0].shape(name)[3])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, wanted: slice | np.ndarray) -> np.ndarray:
        rows = np.arange(len(self))[wanted]
        out = np.empty((len(rows), *self.shape[1:]), np.uint8)
        shards = np.searchsorted(self.starts, rows, side="right") - 1
        for shard in np.unique(shards):
            own = np.flatnonzero(shards == shard)
            out[own] = self.resize(self.artifacts[shard].take(self.name, rows[own] - self.starts[shard]), self.size)
        return out

    def at(self, size: int) -> "Rows":
        """The same at another side."""
        return Rows([artifact.path for artifact in self.artifacts], self.name, size, self.resize)


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
