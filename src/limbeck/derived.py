"""What is made of something else in the config: datasets of source ``pseudo`` (and their sizes) or ``subset``; tuned priors."""

from collections import Counter

import numpy as np

from limbeck.config import FROM_BASE, INHERITED, OF_BASE, Config, Dataset, Prior
from limbeck.data.benchmarks import members
from limbeck.data.pseudo import labelled_count
from limbeck.errors import LimbeckError

TUNED_FAMILIES = ("dit", "sd", "sdxl")


def inherit(config: Config) -> Config:
    """The config with everything filled in that datasets and priors take from those they are made of.

    Raises
    ------
    LimbeckError: what it is made of is unknown or itself, a dataset is made of another such one, names an unknown extractor or a
    class twice.
    """
    return config.model_copy(update={"datasets": _datasets(config), "priors": {n: _tuned(config, n, ()) for n in config.priors}})


def lineage(config: Config, prior: str) -> list[str]:
    """A prior, the one it is tuned from, and so on: the last has the VAE and is tuned from none."""
    found = [prior]
    while (base := config.priors[found[-1]].base) is not None:
        found.append(base)
    return found


def _tuned(config: Config, name: str, above: tuple[str, ...]) -> Prior:
    """A prior with its base's properties, where it has one."""
    prior = config.priors[name]
    if prior.base is None:
        return prior
    if prior.base not in config.priors:
        raise LimbeckError(f"priors.{name}.base: unknown name {prior.base!r}; known: {sorted(config.priors)}")
    if prior.base in (*above, name):
        raise LimbeckError(f"priors.{name}.base: {prior.base!r} is tuned from {name!r} itself; name a prior with weights")
    base = _tuned(config, prior.base, (*above, name))
    if base.family not in TUNED_FAMILIES:
        raise LimbeckError(f"priors.{name}.base: {prior.base!r} is of family {base.family}; tuned are {', '.join(TUNED_FAMILIES)}")
    if prior.refiner is not None and base.family != "sdxl":
        raise LimbeckError(f"priors.{name}.refiner: only family sdxl has a refiner, its base {prior.base!r} is {base.family}")
    taken = (*OF_BASE, *(key for key in FROM_BASE if key not in prior.model_fields_set))
    return prior.model_copy(update={key: getattr(base, key) for key in taken})


def _datasets(config: Config) -> dict[str, Dataset]:
    """Every such dataset with what it takes from its parent filled in, and no extractor that is not read."""
    datasets = dict(config.datasets)
    for name, spec in config.datasets.items():
        if spec.of is None:
            continue
        key = f"datasets.{name}"
        parent = config.datasets.get(spec.of)
        if parent is None:
            raise LimbeckError(f"{key}.of: unknown name {spec.of!r}; known: {sorted(config.datasets)}")
        if parent.of is not None:
            itself = "the dataset itself" if spec.of == name else f"of source {parent.source}, made of {parent.of!r}"
            raise LimbeckError(f"{key}.of: {spec.of!r} is {itself}; name a dataset of files")
        if spec.extractor not in (None, *config.extractor_names):
            raise LimbeckError(f"{key}.extractor: unknown extractor {spec.extractor!r}; known: {list(config.extractor_names)}")
        if spec.source == "subset" and (twice := [c for c, count in Counter(members(spec.classes or ())).items() if count > 1]):
            raise LimbeckError(f"{key}.classes: {twice[0]!r} is named twice")
        unread = {"extractor": None} if spec.threshold is None else {}
        datasets[name] = spec.model_copy(update={field: getattr(parent, field) for field in INHERITED[spec.source]} | unread)
    return datasets


def most_images(counts: np.ndarray, spec: Dataset) -> np.ndarray:
    """(C,) training images that each class can have at most, of the parent's ``counts``: how many are accepted shows later."""
    labelled = np.array([labelled_count(int(n), spec.labelled) for n in counts])
    return labelled + (0 if spec.threshold is None else (counts - labelled).sum())
