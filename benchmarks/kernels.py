"""Kernels of the stages, each against a stated reference: times, memory, how far from what its arithmetic takes, and how it grows.

The floor is floating-point operations, counted, over the rate of a product of matrices, or the bytes that must be moved over that
of a copy, whichever takes longer; both rates are measured in the same run. Products: of a network's time what torch spends inside
convolutions, matrix products and attention. One thread, CPU time. Growth is the slope of log seconds against the log of a size, by
least squares.
"""

import json
import math
import re
import shutil
import sys
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import alone

ROUNDS, SEED = 5, 0
PRODUCTS = re.compile("^aten::(mkldnn_convolution|convolution_backward|addmm|mm|bmm|baddbmm|_scaled_dot_product.*)$")
LONG_ENOUGH = 0.5  # seconds of a round's calls
SQUARE, COPIED = 1024, 1 << 26
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """ours, reference: the same work. of: what the reference is. agree: whether both results are one. flop: None, to be counted
    while torch works. moved: bytes read and written at the least. double: whether it computes in float64.
    """

    ours: Run
    reference: Run
    of: str
    agree: Callable[[Any, Any], bool]
    flop: float | None = 0.0
    moved: float = 0.0
    double: bool = False


@dataclass(frozen=True)
class Kernel:
    """make: of sizes by name. sizes: those of the comparison. grown: the others that each takes in turn."""

    make: Callable[..., Case]
    sizes: dict[str, int]
    grown: dict[str, tuple[int, ...]]


def _close(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance))


def _prior() -> Any:
    from limbeck.data.paths import package_path
    from limbeck.priors.dit import DitPrior

    return DitPrior(package_path("package:fashion-dit"))


def _one_by_one(function: Callable[[slice], Any], n: int) -> np.ndarray:
    return np.concatenate([np.asarray(function(slice(i, i + 1))) for i in range(n)])


def encode(images: int) -> Case:
    """The embedded prior's VAE, on pixels of 32 x 32."""
    prior, x = _prior(), np.random.default_rng(SEED).integers(0, 256, (images, 32, 32, 1), dtype=np.uint8)
    return Case(
        lambda: prior.encode(x), lambda: _one_by_one(lambda at: prior.encode(x[at]), images), "an image at a time", _close, None
    )


def decode(images: int) -> Case:
    """The same VAE, to pixels; a gray level is rounding."""
    import torch

    prior = _prior()
    z = torch.randn(images, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED))
    one = lambda: _one_by_one(lambda at: prior.decode(z[at], 1), images)  # noqa: E731
    return Case(lambda: prior.decode(z, 1), one, "an image at a time", lambda a, b: np.abs(a.astype(int) - b).max() <= 1, None)


def invert(latents: int, steps: int) -> Case:
    """D3HR's inversion by the embedded prior, without guidance."""
    import torch

    from limbeck.diffusion.inversion import inverted

    prior = _prior()
    z, labels = torch.randn(latents, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)), torch.arange(latents) % 10
    scheduler = prior.scheduler("ddim", 50)

    def up(at: slice) -> Any:
        return list(inverted(prior.denoise, scheduler, z[at], labels[at], steps, null=prior.null))[-1]

    one = lambda: _one_by_one(up, latents)  # noqa: E731
    return Case(lambda: up(slice(None)), one, "a latent at a time", lambda a, b: _close(a, b, 1e-3), None)


def sample(classes: int, steps: int) -> Case:
    """An image of every class with classifier-free guidance: IPC 1, where a batch of one class is one image."""
    import torch

    from limbeck.diffusion.sampling import sample as sampled

    prior = _prior()
    noise, labels = (
        torch.randn(classes, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)),
        torch.arange(classes) % 10,
    )

    def down(at: slice) -> Any:
        scheduler = prior.scheduler("ddim", steps)
        return sampled(prior.denoise, scheduler, noise[at], labels[at], null=prior.null, cfg_scale=1.5).latents

    one = lambda: _one_by_one(down, classes)  # noqa: E731
    return Case(lambda: down(slice(None)), one, "a class at a time", lambda a, b: _close(a, b, 1e-3), None)


def linear(rows: int, width: int) -> Case:
    """A feed-forward network's first layer, as a denoiser has it on a CPU with AVX-512."""
    import torch

    from limbeck.priors.cpu import Linear

    layer = Linear(width, 4 * width).requires_grad_(False)
    plain = torch.nn.Linear(width, 4 * width).requires_grad_(False)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(rows, width)
    return Case(lambda: layer(x), lambda: plain(x), "torch's layer", _close, None)


def dift(patches: int) -> Case:
    """Diffusion features of the middle block, behind which the network is left."""
    import torch

    from limbeck.diffusion.hidden import block_of, hidden

    prior = _prior()
    x, t = torch.randn(patches, *prior.latent_shape, generator=torch.Generator().manual_seed(SEED)), torch.full((patches,), 261)
    labels, block = torch.arange(patches) % 10, block_of(prior, None)

    def whole() -> Any:
        found: list[Any] = []
        handle = prior.blocks[block].register_forward_hook(lambda module, given, output: found.append(output))  # noqa: ARG005
        with torch.inference_mode():
            prior.denoise(x, t, labels)
        handle.remove()
        return found[0].mean(1)

    return Case(lambda: hidden(prior, x, t, labels, block), whole, "the whole network", _close, None)


def _points(n: int, d: int, modes: int = 20) -> np.ndarray:
    rng = np.random.default_rng([SEED, n, d])
    return (4 * rng.normal(size=(modes, d))[rng.integers(modes, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def kmeans(points: int, dims: int, ipc: int) -> Case:
    """A class's clusters, their means in float64 and nearest members, beside scikit-learn's clusters alone."""
    from sklearn.cluster import KMeans

    from limbeck.discovery.base import Pool
    from limbeck.discovery.kmeans import discover
    from limbeck.options import KMeansDiscovery
    from limbeck.seeds import stream

    x, options = _points(points, dims), KMeansDiscovery().model_dump()
    state = int(stream(SEED, "select.kmeans", 0).integers(2**31))

    def plain() -> np.ndarray:
        fit = KMeans(ipc, n_init=options["n_init"], max_iter=options["max_iter"], random_state=state).fit(x)
        return np.sort(np.bincount(fit.labels_))[::-1]

    same = lambda found, counts: np.array_equal(found.counts, counts)  # noqa: E731
    # ASSUME: the fewest that Lloyd's iterations can be, two for each start
    flop = options["n_init"] * 2 * 2.0 * points * dims * ipc
    return Case(lambda: discover(Pool(points, x), ipc, options, SEED, 0), plain, "KMeans of scikit-learn", same, flop)


def tree(points: int, dims: int) -> Case:
    """ManifoldGD's divisive tree to depth 8, once for every IPC, beside scikit-learn's bisection to as many leaves."""
    from sklearn.cluster import BisectingKMeans

    from limbeck.discovery.divisive import fit

    x, options = _points(points, dims), {"depth": 8, "n_init": 3}
    leaves = int((fit(x, options, 0).split < 0).sum())

    def plain() -> float:
        how = BisectingKMeans(leaves, n_init=3, random_state=SEED, algorithm="lloyd", bisecting_strategy="biggest_inertia")
        return float(how.fit(x).inertia_)

    def alike(found: Any, inertia: float) -> bool:
        own = [x[found.points(node)] for node in np.flatnonzero(found.split < 0)]
        return sum(float(((each - each.mean(0)) ** 2).sum()) for each in own) <= 1.5 * inertia + 1e-3 * float((x**2).sum())

    return Case(lambda: fit(x, options, 0), plain, f"BisectingKMeans of scikit-learn, {leaves} leaves", alike)


def umap_hdbscan(points: int, dims: int) -> Case:
    """CoDA's embedding and clusters of one class, beside umap-learn and hdbscan on the same standardised points."""
    from sklearn.metrics import adjusted_rand_score
    from sklearn.preprocessing import StandardScaler

    from limbeck.discovery.embedding import reduce
    from limbeck.discovery.hdbscan import cluster

    with warnings.catch_warnings():  # their own, on import
        warnings.simplefilter("ignore")
        from hdbscan import HDBSCAN
        from umap import UMAP

    options = {"reducer": "umap", "standardize": True, "n_neighbors": 15, "components": 10, "min_dist": 0.0}
    rng = np.random.default_rng(SEED)
    x = (4 * rng.normal(size=(5, dims))[np.arange(points) % 5] + rng.normal(size=(points, dims))).astype(np.float32)
    size = max(2, points // 20)

    def plain() -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = UMAP(n_neighbors=15, n_components=10, min_dist=0.0, random_state=SEED, n_jobs=1)
            found = made.fit_transform(StandardScaler().fit_transform(x))
        return HDBSCAN(min_cluster_size=size, min_samples=5, core_dist_n_jobs=1).fit_predict(found.astype(np.float64))

    ours = lambda: cluster(reduce(x, options, 0).coordinates, size, 5).labels  # noqa: E731
    return Case(ours, plain, "umap-learn and hdbscan", lambda a, b: adjusted_rand_score(a, b) > 0.95)


def knn(points: int, dims: int) -> Case:
    """The 300 nearest of a neighbourhood to x_t: one query."""
    from limbeck.geometry.patch import nearest

    rng = np.random.default_rng(SEED)
    cloud, query = rng.normal(size=(points, dims)).astype(np.float32), rng.normal(size=dims).astype(np.float32)
    k = min(300, points)

    def direct() -> np.ndarray:
        return np.argsort(((cloud - query) ** 2).sum(axis=1), kind="stable")[:k]

    same = lambda a, b: len(np.intersect1d(a, b)) >= k - 1  # noqa: E731 - rounding may exchange the last
    return Case(
        lambda: nearest(cloud, query, k), direct, "distances and argsort by NumPy", same, 2.0 * points * dims, 4.0 * points * dims
    )


def _features(own: int, real: int, dims: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(SEED)
    return rng.normal(0.1, 1, (own, dims)).astype(np.float32), rng.normal(size=(real, dims)).astype(np.float32)


def kid(own: int, real: int, dims: int) -> Case:
    """Fifty subsets of at most 1,000."""
    from sklearn.metrics.pairwise import polynomial_kernel

    from limbeck.metrics import kernels
    from limbeck.metrics.samples import some

    a, b = _features(own, real, dims)
    m = min(own, real, kernels.SUBSET)

    def direct() -> tuple[float, float]:
        values = []
        for draw in range(kernels.SUBSETS):
            x = a[some(own, m, "metrics.kid.set", item=draw)].astype(np.float64)
            y = b[some(real, m, "metrics.kid.real", item=draw)].astype(np.float64)
            xx, yy, xy = (polynomial_kernel(*pair, degree=3, gamma=1 / dims, coef0=1) for pair in ((x, x), (y, y), (x, y)))
            values.append(((xx.sum() - np.trace(xx)) + (yy.sum() - np.trace(yy))) / (m * (m - 1)) - 2 * xy.mean())
        return float(np.mean(values)), float(np.std(values, ddof=1))

    flop = kernels.SUBSETS * 3 * 2.0 * m**2 * dims
    return Case(
        lambda: kernels.kid(a, b), direct, "polynomial_kernel of scikit-learn", lambda u, v: _close(u, v, 1e-9), flop, double=True
    )


def mmd(own: int, real: int, dims: int) -> Case:
    """RBF, unbiased, with the median heuristic."""
    from scipy.spatial.distance import cdist

    from limbeck.metrics import kernels
    from limbeck.metrics.samples import some

    a, b = _features(own, real, dims)

    def direct() -> float:
        x, y = a.astype(np.float64), b.astype(np.float64)
        few = x[some(own, kernels.MEDIAN_ROWS, "metrics.mmd")]
        scale = 2 * np.median(cdist(few, y[: kernels.MEDIAN_ROWS], "sqeuclidean"))
        xx, yy, xy = (np.exp(-cdist(*pair, "sqeuclidean") / scale) for pair in ((x, x), (y, y), (x, y)))
        inside = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (xx, yy)]
        return float(sum(inside) - 2 * xy.mean())

    flop = 2.0 * (own**2 + real**2 + own * real) * dims
    return Case(
        lambda: kernels.mmd(a, b), direct, "cdist of SciPy, whole matrices", lambda u, v: _close(u, v, 1e-6), flop, double=True
    )


def prdc(own: int, dims: int) -> Case:
    """Precision, recall, density and coverage of as many rows on either side."""
    from sklearn.metrics import pairwise_distances

    from limbeck.metrics.neighbours import K, precision_recall

    a, b = _features(own, own, dims)

    def direct() -> list[float]:
        radii = [np.partition(pairwise_distances(x), K, axis=1)[:, K] for x in (b, a)]
        between = pairwise_distances(b, a)
        real, made = between <= radii[0][:, None], between <= radii[1]
        return [real.any(0).mean(), made.any(1).mean(), real.sum(0).mean() / K, real.any(1).mean()]

    names = ("precision", "recall", "density", "knn_coverage")
    same = lambda found, values: _close([found[name] for name in names], values, 5e-3)  # noqa: E731 - float32 there
    return Case(
        lambda: precision_recall(a, b), direct, "pairwise_distances of scikit-learn", same, 3 * 2.0 * own**2 * dims, double=True
    )


def student(steps: int) -> Case:
    """ConvNet-3 of width 32 on 100 images of 32 x 32 in batches of 25, beside torch's own layers and optimiser, every image shifted
    by itself.
    """
    import torch
    import torch.nn.functional as F
    from torch import nn

    from limbeck import protocols
    from limbeck.students.augmentation import mixed
    from limbeck.students.inputs import normalised, pixels
    from limbeck.students.registry import build
    from limbeck.students.training import train
    from limbeck.students.views import Views

    settings = protocols.get("tiny-hard", "").settings(10, 10, "convnet").model_copy(update={"steps": steps})
    rng = np.random.default_rng(SEED)
    images, labels = rng.integers(0, 256, (100, 32, 32, 1), dtype=np.uint8), np.arange(100) % 10

    first: list[torch.Tensor] = []  # weights, from which the reference starts too

    def built() -> nn.Module:
        model = build("convnet3-w32", 1, 10, 32)
        first[:] = [p.detach().clone() for p in model.parameters()]
        return model

    def ours() -> nn.Module:
        return train(built, images, labels, settings, SEED, 0, lambda *_: None)

    def shifted(image: torch.Tensor, u: np.ndarray) -> torch.Tensor:
        dy, dx = (int(np.floor(v * 5)) for v in u)
        return F.pad(image, (2, 2, 2, 2))[:, dy : dy + 32, dx : dx + 32]

    def plain() -> nn.Module:
        width, layers = 32, []
        for channels in (1, width, width):
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            layers += [convolution, nn.GroupNorm(width, width), nn.ReLU(inplace=True), nn.AvgPool2d(2)]
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 16, 10))
        with torch.no_grad():
            for parameter, value in zip(model.parameters(), first, strict=True):
                parameter.copy_(value)
        views, decay = Views(settings, len(images), SEED, 0), settings.weight_decay
        optimiser = torch.optim.SGD(model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=decay)
        every, y = pixels(images), torch.from_numpy(labels)
        for epoch in range(views.epochs):
            for number, batch in enumerate(views.epoch(epoch)):
                x = torch.stack([shifted(every[row], u) for row, u in zip(batch.rows, batch.numbers[0], strict=True)])
                assert settings.mix is not None
                x, kept = mixed(x, x[torch.from_numpy(batch.other)], batch.mix, settings.mix)
                own = y[torch.from_numpy(batch.rows)]
                logits = model(normalised(x, settings.normalise))
                other = own[torch.from_numpy(batch.other)]
                loss = kept * F.cross_entropy(logits, own) + (1 - kept) * F.cross_entropy(logits, other)
                for group in optimiser.param_groups:
                    group["lr"] = views.rate(epoch * views.per_epoch + number)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
        return model

    def learned(a: nn.Module, b: nn.Module) -> bool:
        return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True))

    return Case(ours, plain, "torch's layers and SGD, an image's view at a time", learned, None)


def soft_labels(images: int) -> Case:
    """An epoch's labels of 1,000 classes, read as they are stored, beside the teacher (ConvNet-3 of width 32) asked again."""
    import torch

    from limbeck.students.labels import Cached, pack, teacher_logits
    from limbeck.students.registry import build
    from limbeck.students.views import Batch

    torch.manual_seed(SEED)
    teacher, x = _Teacher(build("convnet3-w32", 1, 1000, 32).eval()), torch.rand(images, 1, 32, 32)
    stored = pack(teacher_logits([teacher], x, 20.0), None, 20.0)
    rows = np.arange(images)
    batch, cached = Batch(rows, (), rows[:0], rows[:0]), Cached(lambda epoch: stored, 1000)  # noqa: ARG005
    ask = lambda: teacher_logits([teacher], x, 20.0)  # noqa: E731
    return Case(lambda: cached(0, batch, x), ask, "the teacher asked", lambda a, b: _close(a, b, 2e-3), 0.0, 6.0 * images * 1000)


def soft_training(steps: int) -> Case:
    """As ``student``, learning labels of a teacher (ConvNet-3) that are stored, beside the same training with the teacher asked in
    every step.
    """
    import torch
    from torch import nn

    from limbeck import protocols
    from limbeck.students.inputs import pixels
    from limbeck.students.labels import Cached, Labels, Online, Packed
    from limbeck.students.registry import build
    from limbeck.students.training import train
    from limbeck.students.views import Views

    settings = protocols.get("tiny-soft", "").settings(10, 10, "convnet").model_copy(update={"steps": steps})
    rng = np.random.default_rng(SEED)
    images, labels = rng.integers(0, 256, (100, 32, 32, 1), dtype=np.uint8), np.arange(100) % 10
    torch.manual_seed(SEED)
    online = Online([_Teacher(build("convnet3", 1, 10, 32).eval())], 10, settings.top_k, settings.temperature)
    views, every = Views(settings, len(images), SEED, 0), pixels(images)

    def seen(epoch: int) -> Packed:
        """An epoch's labels, as the stage stores them."""
        found: Packed = {}
        for batch in views.epoch(epoch):
            x, _ = views.seen(every[torch.from_numpy(batch.rows)], batch)
            for name, values in online.packed(x).items():
                found.setdefault(name, np.zeros((len(images), *values.shape[1:]), values.dtype))[batch.rows] = values
        return found

    stored = [seen(epoch) for epoch in range(views.epochs)]
    run = lambda soft: train(lambda: build("convnet3-w32", 1, 10, 32), images, labels, settings, SEED, 0, lambda *_: None, soft)  # noqa: E731

    def learned(a: nn.Module, b: nn.Module) -> bool:
        return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True))

    cached: Labels = Cached(lambda epoch: stored[epoch], 10)
    return Case(lambda: run(cached), lambda: run(online), "the teacher asked in every step", learned, None)


@dataclass
class _Teacher:
    model: Any
    size: int = 32
    normalise: Any = "half"


class _Files:
    """A folder that goes with it, and features to store there."""

    def __init__(self, rows: int):
        self.folder = Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, self.folder)
        self.values = np.random.default_rng(SEED).normal(size=(rows, 512)).astype(np.float32)

    def at(self, name: str) -> Path:
        return self.folder / name

    def write(self) -> None:
        """As an artifact."""
        from limbeck.artifacts import FEATURES
        from limbeck.store import create

        shapes = {"features": self.values.shape, "labels": self.values.shape[:1]}
        with create(self.at("x.zarr.zip"), FEATURES, shapes, {}, {}) as out:
            out.append("features", self.values)
            out.append("labels", np.zeros(len(self.values)))

    def read(self) -> np.ndarray:
        """From the artifact."""
        from limbeck.artifacts import FEATURES
        from limbeck.store import Artifact

        with Artifact(self.at("x.zarr.zip"), FEATURES) as found:
            return found["features"]


def write(rows: int) -> Case:
    """An artifact of features of 512 numbers, with labels, hashes and an atomic rename, beside NumPy's plain file of them."""
    files = _Files(rows)
    plain = lambda: np.save(files.at("x.npy"), files.values)  # noqa: E731
    same = lambda *_: np.array_equal(files.read(), np.load(files.at("x.npy")))  # noqa: E731
    return Case(files.write, plain, "np.save", same, 0.0, 2.0 * files.values.nbytes)


def read(rows: int) -> Case:
    """The same artifact, beside NumPy's file."""
    files = _Files(rows)
    files.write()
    np.save(files.at("x.npy"), files.values)
    return Case(files.read, lambda: np.load(files.at("x.npy")), "np.load", np.array_equal, 0.0, 2.0 * files.values.nbytes)


FEW, REAL = {"own": 500, "real": 2000, "dims": 128}, (500, 1000, 2000, 4000)
KERNELS = {
    "encode": Kernel(encode, {"images": 100}, {"images": (25, 50, 100, 200)}),
    "decode": Kernel(decode, {"images": 100}, {"images": (25, 50, 100, 200)}),
    "invert": Kernel(invert, {"latents": 64, "steps": 4}, {"latents": (16, 32, 64, 128), "steps": (1, 2, 4)}),
    "sample": Kernel(sample, {"classes": 50, "steps": 4}, {"classes": (10, 25, 50, 100), "steps": (2, 4, 8)}),
    "linear": Kernel(linear, {"rows": 1024, "width": 160}, {"rows": (128, 512, 2048), "width": (80, 160, 320)}),
    "dift": Kernel(dift, {"patches": 64}, {"patches": (16, 32, 64, 128)}),
    "kmeans": Kernel(
        kmeans,
        {"points": 500, "dims": 256, "ipc": 10},
        {"points": (250, 500, 1000, 2000), "dims": (128, 256, 512), "ipc": (5, 10, 20)},
    ),
    "tree": Kernel(tree, {"points": 500, "dims": 256}, {"points": (250, 500, 1000), "dims": (128, 256, 512)}),
    "umap, hdbscan": Kernel(umap_hdbscan, {"points": 500, "dims": 256}, {"points": (500, 1000, 2000), "dims": (256, 512, 1024)}),
    "knn": Kernel(knn, {"points": 1300, "dims": 4096}, {"points": (650, 1300, 2600), "dims": (1024, 2048, 4096)}),
    "kid": Kernel(kid, FEW, {"own": (250, 500, 1000), "dims": (64, 128, 256)}),
    "mmd": Kernel(mmd, FEW, {"own": (250, 500, 1000), "real": REAL, "dims": (64, 128, 256)}),
    "prdc": Kernel(prdc, {"own": 1000, "dims": 128}, {"own": REAL, "dims": (64, 128, 256)}),
    "student": Kernel(student, {"steps": 20}, {"steps": (10, 20, 40)}),
    "soft labels": Kernel(soft_labels, {"images": 500}, {"images": (125, 250, 500)}),
    "soft training": Kernel(soft_training, {"steps": 20}, {"steps": (10, 20, 40)}),
    "write": Kernel(write, {"rows": 20_000}, {"rows": (5_000, 10_000, 20_000)}),
    "read": Kernel(read, {"rows": 20_000}, {"rows": (5_000, 10_000, 20_000)}),
}


def seconds(call: Run, rounds: int = ROUNDS) -> float:
    """The least over rounds of a call's CPU time; a round's calls take long enough to be timed."""
    call()
    calls, least = 1, math.inf
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(calls):
            call()
        spent = time.process_time() - begun
        least = min(least, spent / calls)
        calls = max(calls, min(1000, int(LONG_ENOUGH / max(spent / calls, 1e-9) / rounds)))
    return least


def machine() -> dict[str, float]:
    """Operations per second of products of matrices in float32 and float64, and bytes per second that a copy reads and writes.

    In float32 by torch's product or as a convolution, whichever is faster here.
    """
    import torch

    from limbeck.priors.cpu import Linear

    found = {}
    for name, kind in (("flop", torch.float32), ("double", torch.float64)):
        a = torch.randn(SQUARE, SQUARE, dtype=kind)
        found[name] = 2 * SQUARE**3 / seconds(lambda a=a: a @ a)  # type: ignore[misc]
    a, layer = torch.randn(SQUARE, SQUARE), Linear(SQUARE, SQUARE, bias=False).requires_grad_(False)
    found["flop"] = max(found["flop"], 2 * SQUARE**3 / seconds(lambda: layer(a)))
    source = np.zeros(COPIED, np.uint8)
    target = np.ones_like(source)
    found["bytes"] = 2 * COPIED / seconds(lambda: np.copyto(target, source))
    return found


def counted(call: Run) -> float:
    """Floating-point operations of what torch's networks do in a call."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops())


def in_products(call: Run) -> float:
    """Seconds of a call inside torch's convolutions, matrix products and attention, gradients too: the least of ROUNDS."""
    from torch.profiler import ProfilerActivity, profile

    def once() -> float:
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            call()
        return sum(event.self_cpu_time_total for event in seen.key_averages() if PRODUCTS.search(event.key)) / 1e6

    return min(once() for _ in range(ROUNDS))


def slope(sizes: list[int], times: list[float]) -> float:
    """Of log seconds against log size."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def compared(name: str, rates: dict[str, float]) -> dict[str, Any]:
    """Seconds of ours and of the reference, of the floor, and slopes by size."""
    kernel = KERNELS[name]
    case = kernel.make(**kernel.sizes)
    if not case.agree(case.ours(), case.reference()):
        raise RuntimeError(f"{name}: ours and the reference ({case.of}) differ")
    flop = counted(case.ours) if case.flop is None else case.flop
    ours, reference = seconds(case.ours), seconds(case.reference, 3)
    networks = {"products": in_products(case.ours)} if case.flop is None else {}
    floor = max(flop / rates["double" if case.double else "flop"], case.moved / rates["bytes"])
    growth = {}
    for size, values in kernel.grown.items():
        grown = [seconds(kernel.make(**{**kernel.sizes, size: value}).ours, 2) for value in values]
        growth[size] = slope(list(values), grown)
    return {"ours": ours, "reference": reference, "of": case.of, "flop": flop, "floor": floor, "growth": growth, **networks}


def run(folder: Path) -> list[dict[str, object]]:
    """A line for each; the peak is of a process that does ours alone, its imports included."""
    alone(["machine", str(folder / "machine.json"), "{}"], module="benchmarks.kernels")
    rates, lines = json.loads((folder / "machine.json").read_text()), list[dict[str, object]]()
    for name, kernel in KERNELS.items():
        out = folder / f"{name}.json"
        alone([name, str(out), json.dumps(rates)], module="benchmarks.kernels")
        peak = alone([name, str(out.with_suffix(".peak")), ""], module="benchmarks.kernels").peak_mb
        found = json.loads(out.read_text())
        sizes = ", ".join(f"{value:,} {size}" for size, value in kernel.sizes.items())
        line: dict[str, object] = {"benchmark": name, "case": sizes, "seconds": found["ours"], "peak_mb": peak}
        line |= {"ratio": found["reference"] / found["ours"], "of": f"times faster than {found['of']}", "growth": found["growth"]}
        line |= {name: found[name] / found["ours"] for name in ("floor", "products") if found.get(name)}
        lines.append(line)
    return lines


def main(name: str, out: str, rates: str) -> None:
    """One process of :func:`run`: the rates; a comparison; or, without rates, ours once."""
    import torch
    from threadpoolctl import threadpool_limits

    from limbeck.cli import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        found = None
        if name == "machine":
            found = machine()
        elif rates:
            found = compared(name, json.loads(rates))
        else:
            KERNELS[name].make(**KERNELS[name].sizes).ours()
    Path(out).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
