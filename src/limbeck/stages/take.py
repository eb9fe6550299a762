"""take: a shard of a subset's artifact from its parent's: the rows of the subset's classes in its order, nothing computed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.stages.common import Spec, class_rows, left_out_of, params, progress
from limbeck.store import Artifact, create

BLOCK = 16 << 20  # bytes of an array that are in memory at once
Places = Sequence[tuple[Artifact, slice]]


def run(spec: Spec, parents: Sequence[Path], taken: Path) -> None:
    """Write ``taken``, of the schema of ``parents`` and with the same arrays: any whose leading axes are ``image`` and ``class``.

    ``names`` in the spec are the subset's classes in order, ``classes`` those of this shard. ``parents`` are the parent's shards
    that hold them.

    Raises
    ------
    LimbeckError: a class is in none of ``parents``, or a row names one that the subset does not have.
    """
    inputs = {f"parents-{i}": path for i, path in enumerate(parents)}
    with ExitStack() as stack, progress("take") as report:
        parts = [stack.enter_context(Artifact(path)) for path in parents]
        first, schema = parts[0], parts[0].schema
        places, numbers = _places(spec, parts), _numbers(spec, first.attrs["classes"])
        shapes = {name: _shape(name, places[a.dims[0]]) for name, a in schema.arrays.items() if name in first}
        # of the parent's parameters readers need some, e.g. an inversion's
        recorded = {**first.attrs["params"], **params(spec)}
        header = {"classes": spec["names"], "class_range": spec["classes"], **left_out_of(parts)}
        with create(taken, schema, shapes, recorded, inputs, **header) as out:
            for done, (name, shape) in enumerate(shapes.items(), 1):
                for block in _blocks(name, places[schema.arrays[name].dims[0]]):
                    known = schema.arrays[name].units == "class index"
                    out.append(name, _renumbered(block, numbers, spec["dataset"]) if known else _fitted(block, shape))
                report(done, len(shapes))


def _places(spec: Spec, parts: Sequence[Artifact]) -> dict[str, Places]:
    """Leading axis -> where the rows of this shard's classes are along it, class by class."""
    known, names = parts[0].attrs["classes"], spec["names"][slice(*spec["classes"])]
    found = {known[label]: (part, rows) for part in parts for label, rows in _rows(part)}
    for name in names:
        if name not in found:
            raise LimbeckError(
                f"datasets.{spec['dataset']}.classes: class {name!r} is not in {', '.join(str(p.path) for p in parts)}"
            )
    own = [found[name] for name in names]
    return {axis: [(part, rows[axis]) for part, rows in own] for axis in own[0][1]}


def _rows(part: Artifact) -> Iterator[tuple[int, Mapping[str, slice]]]:
    """(label, leading axis -> rows) of every class. Where labels are those of classes, ``counts`` says how many images each has."""
    if part.schema.arrays["labels"].dims[0] == "image":
        yield from ((label, {"image": rows}) for label, rows in class_rows(part["labels"]))
        return
    stops = np.cumsum(part["counts"])
    for row, (label, count, stop) in enumerate(zip(part["labels"], part["counts"], stops, strict=True)):
        yield int(label), {"class": slice(row, row + 1), "image": slice(int(stop - count), int(stop))}


def _blocks(name: str, places: Places) -> Iterator[np.ndarray]:
    """An array's rows at these places in order, a block of a class at a time."""
    for part, rows in places:
        row = int(np.prod(part.shape(name)[1:], dtype=np.int64)) * np.dtype(part.schema.arrays[name].dtype).itemsize
        step = max(1, BLOCK // max(1, row))
        for start in range(rows.start, rows.stop, step):
            yield part.read(name, start, min(start + step, rows.stop))


def _shape(name: str, places: Places) -> tuple[int, ...]:
    """Of an array's rows at these places. Padded bytes get the width of the longest, however the parent is sharded."""
    part, n = places[0][0], sum(rows.stop - rows.start for _, rows in places)
    if part.schema.arrays[name].dims[-1] != "byte":
        return (n, *part.shape(name)[1:])
    return (n, max(int(np.flatnonzero(block.any(axis=0)).max(initial=-1)) + 1 for block in _blocks(name, places)))


def _fitted(block: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of bytes cut or padded with zeros to a width; any others as they are."""
    if block.shape[1:] == shape[1:]:
        return block
    return np.pad(block, ((0, 0), (0, max(0, shape[1] - block.shape[1]))))[:, : shape[1]]


def _numbers(spec: Spec, known: Sequence[str]) -> np.ndarray:
    """(C,) the subset's number of each of the parent's classes; -1: it does not have it."""
    return np.array([spec["names"].index(name) if name in spec["names"] else -1 for name in known])


def _renumbered(labels: np.ndarray, numbers: np.ndarray, dataset: str) -> np.ndarray:
    found = numbers[labels]
    if (found < 0).any():
        raise LimbeckError(f"datasets.{dataset}.classes: an image of them has a true label that is none of them")
    return found
