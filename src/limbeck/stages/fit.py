"""fit: the IPC-free part of a discovery, a tree of every class of a shard."""

from importlib import import_module
from pathlib import Path

import numpy as np

from limbeck.artifacts import LATENTS, TREE
from limbeck.components import FIT
from limbeck.discovery.base import Tree
from limbeck.stages.common import Spec, class_rows, params, progress, read_class
from limbeck.store import Artifact, create

NODES = ("start", "stop", "parent", "depth", "split")


def run(spec: Spec, latents: Path, fit: Path) -> None:
    """Write ``fit``. It depends on neither IPC nor seed."""
    options = spec["fit"]
    kernel = import_module(FIT[options["kind"]]).fit
    rows: dict[str, list[np.ndarray]] = {name: [] for name in ("order", "labels", *NODES)}
    with Artifact(latents, LATENTS) as source, progress("fit") as report:
        labels = source["labels"]
        header = {key: source.attrs[key] for key in ("classes", "class_range")}
        for label, where in class_rows(labels):
            tree = kernel(read_class(source, where), options, label)
            rows["order"].append(tree.order + where.start)
            rows["labels"].append(np.full(len(tree.start), label))
            for name in NODES:
                offset = where.start if name in ("start", "stop") else 0
                rows[name].append(getattr(tree, name) + offset)
            report(where.stop, len(labels))
    arrays = {name: np.concatenate(parts) for name, parts in rows.items()}
    with create(fit, TREE, {k: v.shape for k, v in arrays.items()}, params(spec), {"latents": latents}, **header) as out:
        for name, array in arrays.items():
            out.append(name, array)


def read_trees(path: Path) -> dict[int, Tree]:
    """class -> its tree, over the class's own rows."""
    with Artifact(path, TREE) as found:
        order, labels = found["order"], found["labels"]
        nodes = {name: found[name] for name in NODES}
    trees = {}
    for label, where in class_rows(labels):
        first, last = int(nodes["start"][where.start]), int(nodes["stop"][where.start])
        own = {name: nodes[name][where] for name in NODES}
        trees[label] = Tree(order[first:last] - first, **(own | {name: own[name] - first for name in ("start", "stop")}))
    return trees
