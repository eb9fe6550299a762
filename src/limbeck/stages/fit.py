"""fit: the IPC-free part of a discovery for every class of a shard: a tree, or density clusters."""

from importlib import import_module
from pathlib import Path

import numpy as np

from limbeck.artifacts import CLUSTERS, TREE
from limbeck.components import FIT
from limbeck.discovery.base import Clusters, Tree
from limbeck.stages.common import Spec, class_rows, header_of, params, progress, read_class, write_joined
from limbeck.store import Artifact

NODES = ("start", "stop", "parent", "depth", "split")


def run(spec: Spec, points: Path, fit: Path) -> None:
    """Write ``fit`` from latents or an embedding. It depends on neither IPC nor seed."""
    options = spec["fit"]
    kernel = import_module(FIT[options["kind"]]).fit
    rows: dict[str, list[np.ndarray]] = {}
    with Artifact(points) as source, progress("fit") as report:
        labels = source["labels"]
        header = header_of(source)
        for label, where in class_rows(labels):
            found = kernel(read_class(source, where), options, label)
            arrays = _of_tree(found, label, where.start) if isinstance(found, Tree) else _of_clusters(found, label)
            for name, values in arrays.items():
                rows.setdefault(name, []).append(values)
            report(where.stop, len(labels))
    schema = TREE if "order" in rows else CLUSTERS
    write_joined(fit, schema, rows, params(spec), {"points": points}, **header)


def _of_tree(tree: Tree, label: int, first: int) -> dict[str, np.ndarray]:
    nodes = {name: getattr(tree, name) + (first if name in ("start", "stop") else 0) for name in NODES}
    return {"order": tree.order + first, "labels": np.full(len(tree.start), label), **nodes}


def _of_clusters(clusters: Clusters, label: int) -> dict[str, np.ndarray]:
    n = len(clusters.labels)
    arrays = {"clusters": clusters.labels, "probabilities": clusters.probabilities, "labels": np.full(n, label)}
    return arrays if clusters.distances is None else {**arrays, "distances": clusters.distances}


def read_fits(path: Path) -> dict[int, Tree | Clusters]:
    """class -> its tree or clusters, over the class's own rows."""
    with Artifact(path) as found:
        labels = found["labels"]
        if found.schema is CLUSTERS:
            arrays = [found[name] for name in ("clusters", "probabilities", "distances") if name in found]
            return {label: Clusters(*(values[at] for values in arrays)) for label, at in class_rows(labels)}
        order, nodes = found["order"], {name: found[name] for name in NODES}
    return {label: _tree(order, {name: nodes[name][at] for name in NODES}) for label, at in class_rows(labels)}


def _tree(order: np.ndarray, nodes: dict[str, np.ndarray]) -> Tree:
    first, last = int(nodes["start"][0]), int(nodes["stop"][0])
    return Tree(order[first:last] - first, **(nodes | {name: nodes[name] - first for name in ("start", "stop")}))
