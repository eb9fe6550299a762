"""keep: the distilled set of a method that samples several groups and keeps one per class."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from limbeck.artifacts import DISTILLED, SUBGROUPS
from limbeck.stages.common import Spec, class_rows, header_of, params
from limbeck.store import Artifact, create


def run(spec: Spec, candidates: Sequence[Path], subgroups: Path, distilled: Path) -> None:
    """Write ``distilled``, one shard: of every class the rows of its group. candidates: one file per group."""
    with Artifact(subgroups, SUBGROUPS) as chosen:
        group_of = dict(zip(chosen["labels"].tolist(), chosen["groups"].tolist(), strict=True))
    with ExitStack() as stack:
        groups = [stack.enter_context(Artifact(path, DISTILLED)) for path in candidates]
        first = groups[0]
        names = [name for name in DISTILLED.arrays if name in first]
        shapes = {name: first.shape(name) for name in names}
        header = header_of(first)
        inputs = {"subgroups": subgroups, **{f"candidates/{group}": path for group, path in enumerate(candidates)}}
        with create(distilled, DISTILLED, shapes, params(spec), inputs, **header) as out:
            for label, rows in class_rows(first["labels"]):
                for name in names:
                    out.append(name, groups[group_of[label]].read(name, rows.start, rows.stop))
