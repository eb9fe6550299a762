"""ingest: decode and resize one split and shard of a dataset into a class-major images artifact."""

import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.artifacts import IMAGES
from limbeck.config import Dataset, View
from limbeck.data import decoding
from limbeck.data.decoding import Raw
from limbeck.data.preprocessing import apply_view, cut_windows, window_corners
from limbeck.data.sources import open_source
from limbeck.data.sources.base import Source
from limbeck.stages.common import LEFT_OUT, Spec, params, progress
from limbeck.store import Writer, create

BLOCK = 2**24  # bytes of pixels handed to the artifact at once
TASK = 2**22  # bytes of pixels that one task of a thread makes, but no more than
MOST = 32  # images
SHOWN = 20  # bad files that an error names


def run(spec: Spec, images: Path, threads: int = 1) -> None:
    """Write ``images``; the threads change nothing in it.

    Files that cannot be decoded are all found and named together: up to ``bad_files`` of them are left out, and the artifact
    says which; more are an error.
    """
    view = View.model_validate(spec["view"])
    source = open_source(spec["dataset"], Dataset.model_validate({**spec["source"], "views": {"view": view}}))
    labels, (first, stop) = source.labels(spec["split"]), spec["classes"]
    rows = np.concatenate([np.flatnonzero(labels == c) for c in range(first, stop)])
    ingest = Ingest(source, spec["split"], view, spec["source"]["channels"], threads, images.parent)
    recorded = params({**spec, "source": {k: v for k, v in spec["source"].items() if k != "path"}}, "bad_files")
    header: dict[str, Any] = {"classes": list(source.classes), "class_range": [first, stop]}
    images.parent.mkdir(parents=True, exist_ok=True)
    try:
        ingest.write(images, recorded, header, rows, labels[rows])
    except _BadFilesError:
        bad, ingest.bad = ingest.bad, {}
        # what one view cannot take another can: were it left out, their rows would be of different images
        _judge(source, spec["split"], labels, bad, 0 if ingest.unfit else spec["bad_files"])
        left = np.array([row not in bad for row in rows.tolist()])
        header[LEFT_OUT] = [source.source_id(spec["split"], row) for row in sorted(bad)]
        ingest.write(images, recorded, header, rows[left], labels[rows[left]])


def _judge(source: Source, split: str, labels: np.ndarray, bad: dict[int, str], allowed: int) -> None:
    """Refuse more bad files than are allowed, and a class of nothing else."""
    lines = [f"{source.source_id(split, row)} {why}" for row, why in sorted(bad.items())]
    report = "; ".join(lines[:SHOWN]) + (f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else "")
    noun = "image" if len(bad) == 1 else "images"
    if len(bad) > allowed:
        undecoded = all(why.startswith(decoding.UNDECODED) for why in bad.values())
        remedy = f", or set datasets.{source.name}.bad_files: {len(bad)} to leave them out" if undecoded else ""
        raise source.fail(f"{len(bad)} {noun} of {split}, {allowed} are allowed: {report}; repair or remove them{remedy}")
    for label in np.unique(labels[list(bad)]):
        if set(np.flatnonzero(labels == label).tolist()) <= set(bad):
            raise source.fail(f"no {split} image of class {source.classes[label]!r} can be decoded: {report}")


class _BadFilesError(Exception):
    """Some images were not written; the artifact is not committed."""


@dataclass
class Ingest:
    """One split and shard on its way from a source into an artifact."""

    source: Source
    split: str
    view: View
    channels: int
    threads: int
    folder: Path
    bad: dict[int, str] = field(default_factory=dict)  # row -> why it is
    unfit: bool = False  # whether one of them was decoded, but the view cannot take it

    def write(self, path: Path, recorded: dict[str, Any], header: dict[str, Any], rows: np.ndarray, labels: np.ndarray) -> None:
        """Write the artifact of these rows; after a bad one the others are tried too, and nothing is kept."""
        places = self._windows(rows) if self.view.resize == "windows" else {}
        repeats = np.diff(np.flatnonzero(places["windows"] == 0), append=len(places["windows"])) if places else np.ones_like(rows)
        arrays = {"labels": np.repeat(labels, repeats), "source_ids": np.repeat(self._ids(rows), repeats, axis=0), **places}
        shapes = {"images": (repeats.sum(), self.view.size, self.view.size, self.channels)}
        shapes |= {name: values.shape for name, values in arrays.items()}
        with create(path, IMAGES, shapes, recorded, {}, **header) as out, progress(f"ingest {self.split}") as report:
            if self.source.sequential:
                self._sorted(out, rows, repeats, shapes["images"], report)
            else:
                self._straight(out, rows, report)
            if self.bad:
                raise _BadFilesError
            for name, values in arrays.items():
                out.append(name, values)

    def _fitting(self, limit: int) -> int:
        """Images whose pixels take so many bytes."""
        return int(max(1, limit // (self.view.size**2 * self.channels)))

    def _ids(self, rows: np.ndarray) -> np.ndarray:
        """(N, W) uint8: where each image came from, padded with zeros."""
        # a name that is no UTF-8 keeps its bytes
        ids = [self.source.source_id(self.split, int(row)).encode(errors="surrogateescape") for row in rows]
        width = max(map(len, ids))
        return np.frombuffer(b"".join(each.ljust(width, b"\0") for each in ids), np.uint8).reshape(-1, width)

    def _windows(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Which of its image's windows each row is, and where it lies in the image, by the files' headers."""
        corners: dict[int, np.ndarray] = {}
        for row in np.sort(rows).tolist():
            try:
                corners[row] = window_corners(*decoding.size(self.source.raw(self.split, row)), self.view)[1]
            except ValueError as error:
                self.bad[row] = str(error)
                corners[row] = np.zeros((1, 2), np.int64)  # never written
        ordered = [corners[row] for row in rows.tolist()]
        return {"windows": np.concatenate([np.arange(len(each)) for each in ordered]), "corners": np.concatenate(ordered)}

    def _straight(self, out: Writer, rows: np.ndarray, report: Any) -> None:
        block: list[np.ndarray] = []
        size = self._fitting(BLOCK)
        for done, (_, pixels) in enumerate(self.decoded(rows), 1):
            if pixels is not None and not self.bad:
                block.append(pixels)
            if block and (len(block) == size or done == len(rows)) and not self.bad:
                out.append("images", np.concatenate(block))
                block = []
            report(done, len(rows))

    def _sorted(self, out: Writer, rows: np.ndarray, repeats: np.ndarray, shape: tuple[int, ...], report: Any) -> None:
        """Read in the source's own order, written class by class: a file without a name holds the pixels in between."""
        starts = np.cumsum(repeats) - repeats
        order = np.argsort(rows)
        with tempfile.TemporaryFile(dir=self.folder) as file:
            scratch = np.memmap(file, np.uint8, "w+", shape=shape)
            for done, (at, pixels) in enumerate(self.decoded(rows[order]), 1):
                if pixels is not None:
                    start = starts[order[at]]
                    scratch[start : start + len(pixels)] = pixels
                report(done, len(rows))
            size = self._fitting(BLOCK)
            for start in range(0, 0 if self.bad else len(scratch), size):
                out.append("images", scratch[start : start + size])

    def decoded(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray | None]]:
        """(place in ``rows``, its squares (K, size, size, channels)) in order; None, and an entry in ``bad``, where there are none.

        Sources are read here, one row after the other; files are opened, decoded and resized in the threads (Pillow leaves
        Python's lock for all of that).
        """
        waiting: deque[tuple[int, Future[list[np.ndarray | str]]]] = deque()
        with ThreadPoolExecutor(self.threads) as pool:
            size = min(MOST, self._fitting(TASK))
            for start in range(0, len(rows), size):
                raws = [self._raw(int(row)) for row in rows[start : start + size]]
                waiting.append((start, pool.submit(self._squares, raws)))
                if len(waiting) > 2 * self.threads:
                    yield from self._next(rows, *waiting.popleft())
            while waiting:
                yield from self._next(rows, *waiting.popleft())

    def _next(
        self, rows: np.ndarray, start: int, found: "Future[list[np.ndarray | str]]"
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        for at, squares in enumerate(found.result(), start):
            if isinstance(squares, str):
                self.bad.setdefault(int(rows[at]), squares)
                self.unfit |= not squares.startswith(decoding.UNDECODED)
            yield at, None if isinstance(squares, str) else squares

    def _raw(self, row: int) -> Raw | str:
        try:
            return self.source.raw(self.split, row)
        except ValueError as error:
            return str(error)

    def _squares(self, raws: Sequence[Raw | str]) -> list[np.ndarray | str]:
        """Every image's squares, or why it has none."""
        return [raw if isinstance(raw, str) else self._cut(raw) for raw in raws]

    def _cut(self, raw: Raw) -> np.ndarray | str:
        try:
            image = decoding.decode(raw)
            if self.view.resize == "windows":
                return cut_windows(image, self.view, self.channels)
            return apply_view(image, self.view, self.channels)[None]
        except ValueError as error:
            return str(error)
