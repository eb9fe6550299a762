"""draw: which latents sampling starts from: the group of random ones whose statistics match a class's best."""

from pathlib import Path

import numpy as np

from limbeck.artifacts import STARTS, STATISTICS
from limbeck.errors import LimbeckError
from limbeck.selection.group import Sampling, search
from limbeck.stages.common import Spec, header_of, params
from limbeck.store import Artifact, create

TERMS = ("l_mu", "l_sd", "l_skew")


def run(spec: Spec, statistics: Path, starts: Path, threads: int = 1) -> None:
    """Write ``starts`` from the classes' Gaussians; the threads change nothing in it."""
    with Artifact(statistics, STATISTICS) as found:
        classes, variance = found["labels"], found["variance"]
        header = header_of(found)
    try:
        groups = search(np.sqrt(variance.reshape(len(variance), -1)), classes.tolist(), sampling_of(spec), spec["seed"], threads)
    except ValueError as error:
        raise LimbeckError(f"group sampling: {error}") from None
    arrays = {"indices": groups.indices, "labels": classes, "losses": groups.losses, "terms": groups.terms, "spread": groups.spread}
    shapes = {name: values.shape for name, values in arrays.items()}
    with create(starts, STARTS, shapes, params(spec), {"statistics": statistics}, **header) as out:
        for name, values in arrays.items():
            out.append(name, values)


def sampling_of(spec: Spec) -> Sampling:
    """The kernel's options from a spec's ``draws`` and ``ipc``."""
    options = spec["draws"]
    chosen = {key: options[key] for key in ("candidates", "variance_scale", "pool", "blocks", "search")}
    return Sampling(n=spec["ipc"], weights=tuple(options[key] for key in TERMS), **chosen)
