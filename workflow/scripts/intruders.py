"""How many of CoDA's representatives are intruders: images of a clearly different class mixed into a class (CoDA A.15).

    .venv/bin/python workflow/scripts/intruders.py

Every class of the embedded benchmark with ten images of another, drawn three times. Prints a markdown table.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from limbeck.config import Config
from limbeck.data.paths import package_path
from limbeck.data.preprocessing import apply_view
from limbeck.data.sources.arrays import FASHION_CLASSES
from limbeck.discovery import density, kmeans
from limbeck.discovery.base import Options, Pool
from limbeck.discovery.embedding import reduce
from limbeck.discovery.hdbscan import fit
from limbeck.methods import embedding_options
from limbeck.priors.dit import DitPrior
from limbeck.resolution import resolve
from limbeck.seeds import stream

DATASET, PRIOR = "fashion-mini", "fashion-dit"
INTRUDERS, SEEDS = 10, (0, 1, 2)
# class -> whose images are mixed into it; tops and dresses are not told apart well enough to be a pair, nor are two kinds of shoes
PAIRS = {
    "T-shirt/top": "Ankle boot",
    "Trouser": "Bag",
    "Pullover": "Sandal",
    "Dress": "Sneaker",
    "Coat": "Sneaker",
    "Sandal": "Coat",
    "Shirt": "Ankle boot",
    "Sneaker": "Dress",
    "Bag": "Trouser",
    "Ankle boot": "Shirt",
}
# IPC, and what differs from CoDA's options at that IPC. The last is A.5's least size, at which ten intruders can be a cluster
SETTINGS: tuple[tuple[int, dict[str, Any]], ...] = ((10, {}), (50, {}), (50, {"min_cluster_size": INTRUDERS}))
CHOICES = ("initial", "all", "kmeans")


def latents() -> tuple[np.ndarray, np.ndarray]:
    """Latents (5000, 256) float32 of the benchmark's training images, and their classes."""
    config = Config()
    dataset, prior = config.datasets[DATASET], config.priors[PRIOR]
    with np.load(package_path(dataset.path)) as file:
        images, labels = file["train_images"], file["train_labels"]
    seen = np.stack([apply_view(image, dataset.views[prior.view], dataset.channels) for image in images])
    model = DitPrior(package_path(str(prior.weights)))
    starts = range(0, len(seen), prior.encode_batch)
    return np.concatenate([model.encode(seen[i : i + prior.encode_batch]).numpy() for i in starts]).reshape(len(seen), -1), labels


def mix(points: np.ndarray, labels: np.ndarray, host: int, other: int, seed: int) -> np.ndarray:
    """The points of class ``host``, then INTRUDERS of class ``other``."""
    drawn = stream(seed, "intruders", host).choice(np.flatnonzero(labels == other), INTRUDERS, replace=False)
    return np.concatenate([points[labels == host], points[drawn]])


def chosen(ipc: int, changes: dict[str, Any]) -> tuple[Options, Options]:
    """Options of CoDA's discovery at an IPC, and of k-means."""
    config = Config(methods={"dense": {"base": "coda_real", **changes}})
    dense, means = (resolve(config, name, ipc, PRIOR, DATASET).discovery for name in ("dense", "kmeans"))
    assert dense is not None
    assert means is not None
    return dense, means


def count(points: np.ndarray, host: int, ipc: int, dense: Options, means: Options, seed: int) -> Counter[str]:
    """Representatives of a mixed class whose last INTRUDERS points are the intruders, and how many of them are intruders.

    initial: of HDBSCAN's clusters. all: after Algorithm 2. kmeans: with K = IPC, in the latents. left out: intruders that are
    HDBSCAN's outliers.
    """
    space = reduce(points, embedding_options(dense) or {}, host).coordinates
    clusters = fit(space, dense, host)
    pool = Pool(len(points), points, space, clusters)
    rows = {
        "initial": np.array([row for _, row in density.representatives(space, clusters)], np.int64),
        "all": density.discover(pool, ipc, dense, seed, host).indices,
        "kmeans": kmeans.discover(Pool(pool.n, pool.latents), ipc, means, seed, host).indices,
    }
    own = len(points) - INTRUDERS
    found = Counter({"left out": int((clusters.labels[own:] < 0).sum())})
    for name in CHOICES:
        found[name] = len(rows[name])
        found[f"{name} intruders"] = int((rows[name] >= own).sum())
    return found


def study(points: np.ndarray, labels: np.ndarray, ipc: int, changes: dict[str, Any], seeds: Sequence[int] = SEEDS) -> Counter[str]:
    """The counts of all pairs and seeds together; on one thread, so that rounding is the same everywhere."""
    dense, means = chosen(ipc, changes)
    total: Counter[str] = Counter()
    with threadpool_limits(1):
        for host, other in PAIRS.items():
            own, theirs = FASHION_CLASSES.index(host), FASHION_CLASSES.index(other)
            for seed in seeds:
                total.update(count(mix(points, labels, own, theirs, seed), own, ipc, dense, means, seed))
    return total


def row(setting: str, found: Mapping[str, int]) -> str:
    """Of the table."""
    shares = [f"{found[f'{name} intruders']} of {found[name]} ({found[f'{name} intruders'] / found[name]:.1%})" for name in CHOICES]
    return f"| {setting} | {' | '.join(shares)} | {found['left out']} of {INTRUDERS * len(PAIRS) * len(SEEDS)} |"


def table() -> Iterator[str]:
    """A row for each of SETTINGS."""
    points, labels = latents()
    yield "| setting | intruders among initial representatives | among all IPC | among k-means', K = IPC | left out by HDBSCAN |"
    yield "| --- | --: | --: | --: | --: |"
    for ipc, changes in SETTINGS:
        keys = {key: chosen(ipc, changes)[0][key] for key in ("n_neighbors", "min_cluster_size")}
        name = f"IPC {ipc}: {', '.join(f'{key} {value}' for key, value in keys.items())}"
        yield row(name, study(points, labels, ipc, changes))


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
