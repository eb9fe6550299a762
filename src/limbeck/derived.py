"""Datasets of source ``pseudo``: what they take from the dataset they are made of, and how large they can become."""

import numpy as np

from limbeck.config import INHERITED, Config, Dataset
from limbeck.data.pseudo import labelled_count
from limbeck.errors import LimbeckError


def inherit(config: Config) -> Config:
    """The config with every such dataset's classes, channels, views and shards filled in, and no extractor that is not read.

    Raises
    ------
    LimbeckError: it is made of an unknown dataset, of itself or of another such one, or names an unknown extractor.
    """
    datasets = dict(config.datasets)
    for name, spec in config.datasets.items():
        if spec.of is None:
            continue
        key = f"datasets.{name}"
        parent = config.datasets.get(spec.of)
        if parent is None:
            raise LimbeckError(f"{key}.of: unknown name {spec.of!r}; known: {sorted(config.datasets)}")
        if parent.of is not None:
            raise LimbeckError(f"{key}.of: {spec.of!r} is {'the dataset itself' if spec.of == name else 'of source pseudo, too'}")
        if spec.extractor not in (None, *config.extractor_names):
            raise LimbeckError(f"{key}.extractor: unknown extractor {spec.extractor!r}; known: {list(config.extractor_names)}")
        unread = {"extractor": None} if spec.threshold is None else {}
        datasets[name] = spec.model_copy(update={field: getattr(parent, field) for field in INHERITED} | unread)
    return config.model_copy(update={"datasets": datasets})


def most_images(counts: np.ndarray, spec: Dataset) -> np.ndarray:
    """(C,) training images that each class can have at most, of the parent's ``counts``: how many are accepted shows later."""
    labelled = np.array([labelled_count(int(n), spec.labelled) for n in counts])
    return labelled + (0 if spec.threshold is None else (counts - labelled).sum())
