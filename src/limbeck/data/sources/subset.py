"""Some classes of a source."""

import functools

import numpy as np

from limbeck.config import Dataset
from limbeck.data import benchmarks
from limbeck.data.decoding import Raw
from limbeck.data.sources.base import Source
from limbeck.errors import LimbeckError


class Subset(Source):
    """Some classes of another source, in an order of their own, and their images class by class."""

    def __init__(self, name: str, spec: Dataset, parent: Source):
        super().__init__(name, spec)
        assert self.wanted is not None
        self.path, self.sequential, self._parent = parent.path, parent.sequential, parent
        self._numbers = [self._number(wanted, spec.of or "its source") for wanted in self.wanted]
        self._classes = tuple(parent.classes[number] for number in self._numbers)
        for number, wanted in zip(self._numbers, self.wanted, strict=True):
            if self._numbers.count(number) > 1:
                raise LimbeckError(f"datasets.{name}.classes: {wanted!r} is named twice")

    def _number(self, wanted: str, of: str) -> int:
        """The parent's index of a class, by its name or its WordNet id."""
        known = self._parent.classes
        name = self._parent.aliases().get(wanted) or benchmarks.called(wanted, known)
        if name is not None:
            return known.index(name)
        more = f" and {len(known) - 20} more" if len(known) > 20 else ""
        raise LimbeckError(f"datasets.{self.name}.classes: {of} has no class {wanted!r}; known: {', '.join(known[:20])}{more}")

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @functools.cache  # noqa: B019
    def _rows(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The parent's rows, and the class of each."""
        labels = self._parent.labels(split)
        rows = [np.flatnonzero(labels == number) for number in self._numbers]
        return np.concatenate(rows), np.repeat(np.arange(len(rows)), list(map(len, rows)))

    def labels(self, split: str) -> np.ndarray:
        return self._rows(split)[1]

    def raw(self, split: str, index: int) -> Raw:
        return self._parent.raw(split, int(self._rows(split)[0][index]))

    def source_id(self, split: str, index: int) -> str:
        return self._parent.source_id(split, int(self._rows(split)[0][index]))

    def stamp(self) -> str:
        return self._parent.stamp()
