"""reduce: training latents, or features, of every class in few dimensions."""

import sys
from pathlib import Path

from limbeck.artifacts import EMBEDDING
from limbeck.discovery.base import Embedded
from limbeck.discovery.embedding import reduce
from limbeck.stages.common import Spec, class_rows, params, progress, read_class
from limbeck.store import Artifact, Writer, create


def run(spec: Spec, points: Path, embedding: Path) -> None:
    """Write ``embedding`` of latents or features, class by class; the axes of a linear one too."""
    options = dict(spec["embedding"])
    with Artifact(points) as source, progress("reduce") as report:
        labels, names = source["labels"], source.attrs["classes"]
        ranges = list(class_rows(labels))
        found = [reduce(read_class(source, ranges[0][1]), options, ranges[0][0])]
        shapes = {"coordinates": (len(labels), found[0].coordinates.shape[1]), "labels": labels.shape}
        if found[0].axes is not None:
            shapes |= {"axes": (len(ranges), *found[0].axes.shape), "centres": (len(ranges), found[0].axes.shape[1])}
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        with create(embedding, EMBEDDING, shapes, params(spec), {"points": points}, **header) as out:
            for label, where in ranges:
                one = found.pop() if found else reduce(read_class(source, where), options, label)
                if one.note:
                    print(f"warning: class {names[label]!r} {one.note}", file=sys.stderr)
                _write(out, one)
                report(where.stop, len(labels))
            out.append("labels", labels)


def _write(out: Writer, one: Embedded) -> None:
    out.append("coordinates", one.coordinates)
    if one.axes is not None and one.centre is not None:
        out.append("axes", one.axes[None])
        out.append("centres", one.centre[None])
