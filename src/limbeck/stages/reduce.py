"""reduce: training latents, or features, of every class in few dimensions."""

import sys
from itertools import chain
from pathlib import Path

from limbeck.artifacts import EMBEDDING
from limbeck.discovery.base import Embedded, Options
from limbeck.stages.common import Spec, class_rows, header_of, in_order, params, progress, read_class
from limbeck.store import Artifact, Writer, create


def run(spec: Spec, points: Path, embedding: Path, workers: int = 1) -> None:
    """Write ``embedding`` of latents or features, a class at a time in each of ``workers``; the axes of a linear one too."""
    options = dict(spec["embedding"])
    with Artifact(points) as source, progress("reduce") as report:
        labels, names = source["labels"], source.attrs["classes"]
        header = header_of(source)
        ranges = list(class_rows(labels))
        jobs = [(f"class {names[label]!r}", (points, where, options, label)) for label, where in ranges]
        found = in_order(_reduce_class, jobs, workers)
        first = next(found)
        shapes = {"coordinates": (len(labels), first.coordinates.shape[1]), "labels": labels.shape}
        if first.axes is not None:
            shapes |= {"axes": (len(ranges), *first.axes.shape), "centres": (len(ranges), first.axes.shape[1])}
        with create(embedding, EMBEDDING, shapes, params(spec), {"points": points}, **header) as out:
            for (label, where), one in zip(ranges, chain([first], found), strict=True):
                if one.note:
                    print(f"warning: class {names[label]!r} {one.note}", file=sys.stderr)
                _write(out, one)
                report(where.stop, len(labels))
            out.append("labels", labels)


def _reduce_class(points: Path, rows: slice, options: Options, label: int) -> Embedded:
    """One class, read by the process that reduces it."""
    from limbeck.discovery.embedding import reduce  # a parent of workers does without it

    with Artifact(points) as source:
        return reduce(read_class(source, rows), options, label)


def _write(out: Writer, one: Embedded) -> None:
    out.append("coordinates", one.coordinates)
    if one.axes is not None and one.centre is not None:
        out.append("axes", one.axes[None])
        out.append("centres", one.centre[None])
