"""label: one shard of a dataset of source pseudo: the images whose labels are known, and those that come near a class centre."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from limbeck.artifacts import FEATURES, IMAGES, Schema
from limbeck.data.pseudo import centre, labelled_rows, nearest_class
from limbeck.stages.common import Spec, class_rows, left_out_of, params, progress, same_rows
from limbeck.store import Artifact, create

BLOCK = 500  # rows of the parent's images that are in memory at once


class _Shards:
    """Class-major artifacts of consecutive classes, their rows numbered through."""

    def __init__(self, stack: ExitStack, paths: Sequence[Path], schema: Schema):
        self.parts = [stack.enter_context(Artifact(path, schema)) for path in paths]
        self.starts = np.cumsum([0, *map(len, self.parts)])

    def all(self, name: str) -> np.ndarray:
        return np.concatenate([part[name] for part in self.parts])

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of one class, so of one shard."""
        part = int(np.searchsorted(self.starts, start, side="right")) - 1
        return self.parts[part].read(name, start - self.starts[part], stop - self.starts[part])

    def take(self, name: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """The values of ascending rows, in pieces."""
        parts = np.searchsorted(self.starts, rows, side="right")
        piece = np.flatnonzero(np.diff(parts) | np.diff(rows // BLOCK)) + 1
        for own in np.split(rows, piece):
            first = int(own[0])
            yield self.read(name, first, int(own[-1]) + 1)[own - first]


def run(spec: Spec, parents: Sequence[Path], features: Sequence[Path], images: Path) -> None:
    """Write ``images`` of a range of classes from all of the parent's training images and, with a threshold, their features."""
    first, stop = spec["classes"]
    inputs = {f"images-{i}": path for i, path in enumerate(parents)} | {f"features-{i}": path for i, path in enumerate(features)}
    with ExitStack() as stack, progress("label") as report:
        pool, space = _Shards(stack, parents, IMAGES), _Shards(stack, features, FEATURES)
        for pair in zip(pool.parts, space.parts, strict=False):  # no features without a threshold
            same_rows(*pair)
        names, true = pool.parts[0].attrs["classes"], pool.all("labels")
        known, labels = _label(spec, true, space)
        _say(known, labels, true, names, range(first, stop))
        chosen = [np.flatnonzero(labels == c) for c in range(first, stop)]  # within a class in the parent's order
        rows = np.concatenate(chosen)
        arrays = {"labels": labels[rows], "source_ids": _ids(pool, chosen), "pseudo": ~known[rows], "true_labels": true[rows]}
        shapes = {"images": (len(rows), *pool.parts[0].shape("images")[1:]), **{k: v.shape for k, v in arrays.items()}}
        header = {"classes": names, "class_range": [first, stop], **left_out_of(pool.parts)}
        with create(images, IMAGES, shapes, params(spec), inputs, **header) as out:
            for done, own in enumerate(chosen, 1):
                for pixels in pool.take("images", own):
                    out.append("images", pixels)
                report(done, len(chosen))
            for name, values in arrays.items():
                out.append(name, values)


def _ids(pool: _Shards, chosen: Sequence[np.ndarray]) -> np.ndarray:
    """(N, width) bytes, no wider than the longest id of these rows."""
    pieces = (piece for rows in chosen for piece in pool.take("source_ids", rows))
    ids = [row.tobytes().rstrip(b"\0") for piece in pieces for row in piece]
    width = max(map(len, ids))
    return np.frombuffer(b"".join(i.ljust(width, b"\0") for i in ids), np.uint8).reshape(-1, width)


def _label(spec: Spec, true: np.ndarray, space: _Shards) -> tuple[np.ndarray, np.ndarray]:
    """Of all of the parent's images: whether the label is known (N,), and the label (N,), -1 for none. Class by class."""
    known = np.zeros(len(true), bool)
    ranges = list(class_rows(true))
    for label, at in ranges:
        known[at.start + labelled_rows(at.stop - at.start, spec["labelled"], spec["label_seed"], label)] = True
    labels = np.where(known, true, -1)
    if spec["threshold"] is not None:
        centres = np.stack([centre(space.read("features", at.start, at.stop)[known[at]]) for _, at in ranges])
        for _, at in ranges:
            rest = at.start + np.flatnonzero(~known[at])
            labels[rest] = nearest_class(space.read("features", at.start, at.stop)[rest - at.start], centres, spec["threshold"])
    return known, labels


def _say(known: np.ndarray, labels: np.ndarray, true: np.ndarray, names: Sequence[str], classes: range) -> None:
    """How many were accepted, and how many of those rightly: known here, since the missing labels are simulated."""
    accepted = (labels >= 0) & ~known

    def counted(own: np.ndarray) -> str:
        right = f", precision {(true == labels)[own].mean():.4f}" if own.any() else ""
        return f"{own.sum()} by pseudo-label{right}"

    lines = [f"{known.sum()} images labelled, of {(~known).sum()} others {counted(accepted)}"]
    lines += [f"{names[c]!r}: {(known & (true == c)).sum()} labelled, {counted(accepted & (labels == c))}" for c in classes]
    print("\n".join(f"label: {line}" for line in lines), file=sys.stderr, flush=True)
