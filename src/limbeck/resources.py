"""What a scheduler is told of every job: its memory and its time, from the config and the sizes of what it reads.

``ESTIMATES`` has a formula per stage: megabytes, and work by kind (``KINDS``). Memory is what was measured (``python -m
benchmarks.memory``) with room above it. Time is work over a slow core's or a GPU's rate, and is meant as a limit; what is to be
expected is work over measured rates (``limbeck.costs``). A job that was killed is asked for again with GROWTH times both.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from limbeck.config import OF_PRIOR, TEACHER
from limbeck.methods import DISCOVERY, FULL
from limbeck.plan import Plan
from limbeck.priors import sizes
from limbeck.priors.sizes import MB
from limbeck.rows import HELD, READERS
from limbeck.settings import Settings
from limbeck.students.registry import STUDENTS

Wildcards = Mapping[str, Any]
GROWTH = 2

# megabytes of a process before it reads anything, Snakemake's own 150 beside it included
PLAIN, SCIENCE, TORCH = 500.0, 700.0, 1000.0
# ASSUME: what CUDA's context and libraries take of the machine's own
CUDA = 3000.0
# floats alive at once per pixel and channel of a VAE's first block, and per position and channel of a denoiser's
ENCODING, DECODING, DENOISING, TRAINING = 6.0, 8.0, 40.0, 20.0
# weights are read beside the model that they go into, and not all of their memory is given back
LOADING, LOADED = 2.2, 1.2
START = 120.0  # seconds: imports on a busy shared disk
# ASSUME: a slow core, and a GPU at a third of what an A100 does in TF32; work of more than LONG on a core is given to a GPU
CORE, GPU, LONG = 5e9, 30e12, 4 * 3600.0
FLOPS = "FLOP"


@dataclass(frozen=True)
class Kind:
    """Of work: its unit, what it is, and, where that is no network, seconds at most that a unit of it takes."""

    unit: str
    doc: str
    slow: float = 0.0


# Of networks there are two kinds each: those of less than LARGE per image leave more of a device idle. They may run on a GPU.
LARGE = 2e9
SLOW = 1e-9  # seconds per FLOP of what runs on a core, many small steps of it
NETWORKS = {
    "denoiser": Kind(FLOPS, "evaluations of a prior's denoiser"),
    "vae": Kind(FLOPS, "encoding and decoding"),
    "tuning": Kind(FLOPS, "training of a prior, forward and backward"),
    "training": Kind(FLOPS, "training of students, forward and backward"),
    "features": Kind(FLOPS, "forward passes of students, teachers and extractors"),
}
SMALL = "_small"
KINDS = {
    **{name + ending: kind for name, kind in NETWORKS.items() for ending in ("", SMALL)},
    "clustering": Kind(FLOPS, "distances of k-means, trees and density clusters", SLOW),
    "tangents": Kind(FLOPS, "neighbourhoods and their eigenvectors", SLOW),
    "draws": Kind(FLOPS, "moments of candidate groups", SLOW),
    "metrics": Kind(FLOPS, "moments and distances of features", SLOW),
    "umap": Kind("images", "reduced by UMAP", 0.2),
    "files": Kind("images", "decoded from files", 0.2),
    "pixels": Kind("MB", "pixels resized, compressed and written", 2.0),
    "io": Kind("MB", "arrays read or written", 0.2),
    "png": Kind("MB", "pixels written as PNG", 0.5),
    "rows": Kind("rows", "handled one by one", 0.05),
    "fetched": Kind("MB", "from a hub", 0.5),
    "pages": Kind("rows", "of a report's tables and plots", 60.0),
    "start_forked": Kind("jobs", "forked from the server that has loaded everything (limbeck.warm)"),
    "start": Kind("jobs", "processes that load NumPy and Zarr"),
    "start_science": Kind("jobs", "processes that load SciPy or scikit-learn too"),
    "start_torch": Kind("jobs", "processes that load PyTorch too"),
}
# ASSUME: of a view of windows; how many squares an image has is not known before it is opened
WINDOWS = 4
# Activations that a student's training keeps, floats per pixel of its input at 224 (torchvision's models); the stems for small
# inputs do not stride, so theirs are more.
ACTIVATIONS = {"alexnet": 80, "vgg": 700, "mobilenet": 900, "shufflenet": 500, "efficientnet": 1100, "vit": 900, "swin": 1200}
RESNETS = {"resnet18": 420, "resnet50": 1700, "resnet101": 2600, "resnetap10": 900, "resnet18-in": 1500}
WEIGHTS = {"convnet": 2e6, "resnet": 45e6, "alexnet": 62e6, "vgg": 133e6, "vit": 90e6, "swin": 30e6}  # parameters at most
SMALL_SIDE = 64
INFERENCE = 3.0  # times less is alive at once where nothing is kept for a backward pass
NUMBERS = 40  # random ones of an image's view
FLOPS_PER_FLOAT = 700.0  # of a training step


@dataclass(frozen=True)
class Memory:
    """Peak megabytes of a process whose network computes on the CPU; of one with it on a GPU; of that GPU."""

    cpu: float
    host: float
    device: float

    def __add__(self, held: float) -> "Memory":
        """With so much more that is in the machine's memory anyway."""
        return Memory(self.cpu + held, self.host + held, self.device)


@dataclass(frozen=True)
class Need:
    """Memory, and work by kind: FLOP, or the kind's unit; ``turns``: how many trainings in turn that is."""

    memory: Memory
    work: Mapping[str, float] = field(default_factory=dict)
    turns: int = 1

    @property
    def seconds(self) -> float:
        """At most, on a slow core or GPU."""
        rest = sum(amount * KINDS[kind].slow for kind, amount in self.work.items())
        flops = sum(amount for kind, amount in self.work.items() if KINDS[kind].unit == FLOPS and not KINDS[kind].slow)
        return rest + min(flops / CORE, self.turns * LONG) + flops / GPU


def memory_mb(plan: Plan, stage: str, w: Wildcards, attempt: int = 1, gpu: bool = False) -> int:
    """The resource mem_mb of a job; gpu: whether networks compute on one."""
    memory = estimate(plan, stage, w).memory
    return round((memory.host if gpu else memory.cpu) * GROWTH ** (attempt - 1))


def runtime_min(plan: Plan, stage: str, w: Wildcards, attempt: int = 1) -> int:
    """The resource runtime of a job, minutes."""
    seconds = START + estimate(plan, stage, w).seconds
    return math.ceil(max(600.0, 1.5 * seconds) / 60) * GROWTH ** (attempt - 1)


def estimate(plan: Plan, stage: str, w: Wildcards) -> Need:
    """Of a stage's job, by its wildcards."""
    return _estimate(plan, stage, tuple(sorted((str(key), str(value)) for key, value in w.items())))


@lru_cache(maxsize=100_000)
def _estimate(plan: Plan, stage: str, w: tuple[tuple[str, str], ...]) -> Need:
    return ESTIMATES[stage](plan, dict(w))


def by(kind: str, count: float, flops: float) -> dict[str, float]:
    """Work of a network on so many images of so many FLOP each."""
    return {kind if flops >= LARGE else kind + SMALL: count * flops}


def added(*works: Mapping[str, float]) -> dict[str, float]:
    """Sum of works."""
    return {kind: sum(work.get(kind, 0.0) for work in works) for kind in dict.fromkeys(itertools.chain(*works))}


def floats(count: float) -> float:
    """Megabytes of single-precision numbers."""
    return count * 4 / MB


# --- sizes -------------------------------------------------------------------------------------------------------------------


def side(plan: Plan, dataset: str, view: str | None = None) -> int:
    """Of a view's squares, pixels."""
    spec = plan.dataset(dataset)
    return spec.views[view or spec.view].size


def pixels(plan: Plan, dataset: str, view: str | None = None) -> float:
    """Megabytes of one image of a view."""
    return side(plan, dataset, view) ** 2 * plan.dataset(dataset).channels / MB


@lru_cache(maxsize=10_000)
def images(plan: Plan, dataset: str, split: str = "train", shard: int | None = None, view: str | None = None) -> int:
    """Rows of a shard, or of all."""
    counts = plan.counts(dataset) if split == "train" else plan.source(dataset).counts(split)
    own = plan.class_range(dataset, shard) if shard is not None else range(len(counts))
    spec = plan.dataset(dataset)
    squares = WINDOWS if spec.views[view or spec.view].resize == "windows" else 1
    return int(counts[own.start : own.stop].sum()) * squares


def shard_images(plan: Plan, w: Wildcards, split: str = "train", view: str | None = None) -> int:
    return images(plan, w["dataset"], split, int(w["shard"]), view)


def classes_of(plan: Plan, w: Wildcards) -> int:
    """Of the job's shard, or of all."""
    return len(plan.class_range(w["dataset"], int(w["shard"]))) if "shard" in w else len(plan.source(w["dataset"]).classes)


@lru_cache(maxsize=1000)
def network(plan: Plan, prior: str) -> sizes.Size:
    """Of a prior; of a tuned one that of what it is tuned from."""
    base = plan.vae_of(prior)
    return sizes.of(plan.config.priors[base], plan.local_weights(base))


def plain(mb: float) -> Memory:
    """Of a process without a network."""
    return Memory(mb, mb, 0.0)


def working(weights: float, work: float, held: float = 0.0) -> Memory:
    """Of so many parameters that are loaded, which is over when ``held`` is read and the network works in ``work`` megabytes."""
    loading, loaded = LOADING * floats(weights), LOADED * floats(weights)
    return Memory(TORCH + max(loading, loaded + work + held), TORCH + CUDA + max(loading, held), floats(weights) + work)


def with_prior(plan: Plan, prior: str, work: float, held: float = 0.0) -> Memory:
    """The same of a prior, and its refiner."""
    refiner = plan.config.priors[prior].refiner
    return working(sum(network(plan, name).all for name in (prior, refiner) if name), work, held)


def denoising(size: sizes.Size, pixel_side: int, batch: int) -> float:
    """Megabytes of a batch in the denoiser, both branches of classifier-free guidance."""
    return floats(2 * batch * DENOISING * size.width * size.positions(pixel_side))


def step_flops(size: sizes.Size, pixel_side: int) -> float:
    """Of one evaluation for one image: a multiplication and an addition per weight and patch of 2 x 2 positions."""
    return 2 * size.denoiser * max(1.0, size.positions(pixel_side) / 4)


def branches(scale: float) -> int:
    """Evaluations of a denoiser per step: without classifier-free guidance the conditional one alone."""
    return 1 if scale == 1 else 2


def vae_flops(size: sizes.Size, pixel_side: int) -> float:
    """Of encoding or decoding one image: some forty 3 x 3 convolutions at its first width, deeper ones as dear."""
    return 2.0 * 40 * 9 * size.vae**2 * pixel_side**2


def activations(student: str, pixel_side: int) -> float:
    """Floats per image that a student's training keeps."""
    family = STUDENTS[student].family
    if family == "convnet":
        return 8.0 * STUDENTS[student].options["width"] * pixel_side**2
    per_pixel = RESNETS.get(student) or ACTIVATIONS.get(family, 2600)
    return per_pixel * pixel_side**2 * (16 if pixel_side <= SMALL_SIDE else 1)


def parameters(student: str) -> float:
    """Of a student, at most."""
    return WEIGHTS.get(STUDENTS[student].family, 25e6)


def dimensions(plan: Plan, dataset: str, extractor: str) -> int:
    """Of an extractor's features."""
    name = plan.config.teachers[plan.run.teacher].student
    student = STUDENTS[name]
    if extractor != TEACHER:
        return 2048
    if name.startswith(("resnet18", "resnetap10")):
        return 512
    if student.family == "convnet":
        return int(student.options["width"] * (side(plan, dataset) // 2 ** student.options["depth"]) ** 2)
    return 4096 if student.family in ("vgg", "alexnet") else 2048


def points(plan: Plan, w: Wildcards) -> int:
    """Floats per training image where a discovery works: a latent's, at most those of an extractor."""
    if w.get("vae", "none") == "none":
        return 0
    return max(network(plan, w["vae"]).latent(side(plan, w["dataset"], w["view"])), 2048 * _spaces(plan))


@lru_cache(maxsize=16)
def _spaces(plan: Plan) -> bool:
    """Whether any method discovers in an extractor's features."""
    return any(spec.get("features") not in (None, *OF_PRIOR) for spec in plan.config.methods.values())


# --- formulas ----------------------------------------------------------------------------------------------------------------


def _ingest(plan: Plan, w: Wildcards) -> Need:
    n, one, spec = shard_images(plan, w, w["split"], w["view"]), pixels(plan, w["dataset"], w["view"]), plan.dataset(w["dataset"])
    # these hold a whole split, or a block of it, at once; the others open one file after the other
    whole = spec.source in ("npz", "idx", "cifar", "parquet")
    held = 2 * images(plan, w["dataset"], w["split"]) * one if whole else 0
    files = 0 if spec.source in ("npz", "idx", "cifar") else n
    return Need(plain(PLAIN + 200 + min(held, 4000) + n * 300 / MB + 64 * one), {"files": files, "pixels": n * one})


def _rows(plan: Plan, w: Wildcards) -> Need:
    """Stages that copy rows, a class or less at a time, of held-out images a shard's."""
    per_class = plan.per_class(w["dataset"]) * WINDOWS
    held = plan.run.held_out * len(plan.source(w["dataset"]).classes)
    one = pixels(plan, w["dataset"], w.get("view"))
    n = images(plan, w["dataset"]) if "shard" in w else held
    together = per_class if "shard" in w else held / len(plan.shards(w["dataset"]))
    return Need(plain(PLAIN + 100 + 3 * together * one), {"rows": n, "io": n * one})


def _encode(plan: Plan, w: Wildcards) -> Need:
    size, at = network(plan, w["vae"]), side(plan, w["dataset"], w["view"])
    return Need(
        working(size.all - size.denoiser, _encoding(plan, w["vae"], at)),
        by("vae", shard_images(plan, w, view=w["view"]), vae_flops(size, at)),
    )


def _encoding(plan: Plan, prior: str, at: int, batch: int | None = None) -> float:
    batch = batch or plan.config.priors[prior].encode_batch
    return floats(batch * ENCODING * network(plan, prior).vae * at**2)


def _reencode(plan: Plan, w: Wildcards) -> Need:
    size, at = network(plan, w["prior"]), side(plan, w["dataset"], plan.config.priors[w["prior"]].view)
    count = classes_of(plan, w) * int(w["ipc"])
    memory = working(size.all - size.denoiser, _encoding(plan, w["prior"], at, 2))
    return Need(memory + images(plan, w["dataset"]) * 300 / MB, {"files": count, **by("vae", count, vae_flops(size, at))})


def _prior(plan: Plan, w: Wildcards) -> Need:
    spec, size = plan.config.priors[w["prior"]], network(plan, w["prior"])
    memory = working(size.all, 0)
    if spec.train is None:
        return Need(memory, {"fetched" if plan.local_weights(w["prior"]) is None else "io": floats(size.all)})
    at, train = side(plan, spec.train.dataset, spec.view), spec.train
    vae = train.vae.batch_size * TRAINING * size.vae * at**2 * 2
    dit = train.dit.batch_size * TRAINING * size.width * size.positions(at) * (size.blocks + 2)
    work = added(
        by("tuning", 6 * train.vae.steps * train.vae.batch_size, vae_flops(size, at)),
        by("tuning", 6 * train.dit.steps * train.dit.batch_size, step_flops(size, at)),
    )
    held = 2 * images(plan, spec.train.dataset) * (pixels(plan, spec.train.dataset, spec.view) + floats(size.latent(at)))
    return Need(working(size.all, 5 * floats(size.all) + floats(max(vae, dit)), held), work)


def _finetune(plan: Plan, w: Wildcards) -> Need:
    prior = plan.config.priors[w["prior"]]
    assert prior.finetune is not None
    size, at, tune = network(plan, w["prior"]), side(plan, prior.finetune.dataset, prior.view), prior.finetune
    n, states = images(plan, tune.dataset, view=prior.view), 4 if tune.mode == "full" else 1
    graphs = 2 if tune.criterion == "inversion_matching" else 1
    kept = graphs * tune.batch_size * TRAINING * size.width * size.positions(at) * (size.blocks + 2)
    latents = 1.2 * floats(n * size.latent(at)) / 2  # as they are stored, in halves
    memory = with_prior(plan, w["prior"], states * floats(size.denoiser) + floats(kept), latents)
    evaluations = 3 + (2 * tune.inversion_steps if graphs == 2 else 0)
    return Need(memory, by("tuning", tune.epochs * n * evaluations, step_flops(size, at)))


def _discovery(plan: Plan, w: Wildcards) -> Need:
    """reduce, fit and select: a class's points in a few copies, and at most two matrices of their pairs."""
    n, d = plan.per_class(w["dataset"]) * WINDOWS ** (w["vae"] == "none"), points(plan, w)
    pairs = min(n, 20_000) ** 2 * 8 * 2 / MB if d else 0
    workers = 2 if w.get("embedding", "").startswith("umap") else 1
    memory = plain((SCIENCE + 300 * (workers - 1)) * workers + workers * (pairs + 8 * floats(n * d)))
    return Need(memory, _finding(plan, w, n, d))


def _finding(plan: Plan, w: Wildcards, n: int, d: int) -> dict[str, float]:
    """Work on all classes of a shard, n points of d floats each at most."""
    classes, read = classes_of(plan, w), {"io": classes_of(plan, w) * floats(n * d)}
    if "embedding" in w:
        options = plan.embedding_of(w["embedding"], w["dataset"])
        kind = {"umap": "umap"}.get(options["reducer"], "clustering")
        return {**read, kind: classes * (n if kind == "umap" else 2.0 * n * d * min(n, d))}
    if "fit" in w:
        options = plan.fit_of(w["fit"], w["dataset"])
    else:
        options = plan.discovery_options(w["discovery"], int(w["ipc"]), w["dataset"])
    width = options.get("components", d) if options.get("reducer", "none") != "none" else d
    pass_, ipc = 2.0 * n * width, int(w.get("ipc", 1))
    # ASSUME: Lloyd's iterations end after so many; as many bisections of a node, each of its two halves
    steps, restarts = min(options.get("max_iter", 50), 50), options.get("n_init", 1)
    flops = {
        "kmeans": restarts * steps * ipc * pass_,
        "divisive": 2 * restarts * steps * options.get("depth", 0) * pass_,
        "agglomerative": n * pass_,
        "density": n * pass_,
        "herding": ipc * pass_,
        "kcenter": ipc * pass_,
        "patches": restarts * steps * options.get("clusters", 1) * pass_,
    }.get(options["kind"], 0.0)
    if "ipc" in w and DISCOVERY[options["kind"]].fit is not None:  # what is left after the fit
        flops = ipc * pass_
    return {**read, "rows": classes * ipc, "clustering": classes * flops}


def _score(plan: Plan, w: Wildcards) -> Need:
    options, size = plan.judged(w["scoring"], w["dataset"]), network(plan, w["prior"])
    at, classes = side(plan, w["dataset"], options["view"]), classes_of(plan, w)
    n = min(shard_images(plan, w, view=options["view"]), (options["real_images_per_class"] or 10**9) * classes * WINDOWS)
    latents = floats(options["score_batch"] * 10 * size.latent(at))
    memory = with_prior(plan, w["prior"], denoising(size, at, options["score_batch"]) + latents)
    return Need(memory, by("denoiser", 2 * n * options["n_draws"], step_flops(size, at)))


def _localize(plan: Plan, w: Wildcards) -> Need:
    n = shard_images(plan, w, view=plan.judged(w["patching"], w["dataset"])["view"])
    return Need(plain(PLAIN + n * 0.02), {"rows": n})


def _patch_features(plan: Plan, w: Wildcards) -> Need:
    options, n = plan.embedding_of(w["embedding"], w["dataset"]), shard_images(plan, w)
    if options["features"] not in OF_PRIOR:
        return _extracting(plan, options["features"], w["dataset"], n, options.get("dift_batch", 64))
    # of features 'vae' the denoiser computes nothing
    size, at, batch = network(plan, w["vae"]), side(plan, w["dataset"], options["view"]), options.get("dift_batch", 64)
    work = max(_encoding(plan, w["vae"], at, batch), denoising(size, at, batch))
    evaluated = by("denoiser", n * options.get("dift_ensemble", 0), step_flops(size, at))
    return Need(with_prior(plan, w["vae"], work, floats(n * 2000)), added(by("vae", n, vae_flops(size, at)), evaluated))


def _crop(plan: Plan, w: Wildcards) -> Need:
    options = plan.judged(w["patching"], w["dataset"])
    n = min(shard_images(plan, w), (options["crop_images"] or 10**9) * classes_of(plan, w)) * options["crops"]
    return _extracting(plan, TEACHER, w["dataset"], n, 250 * options["crops"])


def _invert(plan: Plan, w: Wildcards) -> Need:
    options, size = plan.inversion_of(w["inversion"], w["dataset"]), network(plan, w["prior"])
    at, rungs = side(plan, w["dataset"], plan.config.priors[w["prior"]].view), options["inversion_step"] + 1
    moments = 12 * rungs * floats(size.latent(at)) * 2
    memory = with_prior(plan, w["prior"], denoising(size, at, options["inversion_batch"]), moments)
    evaluations = shard_images(plan, w) * rungs * branches(options["inversion_scale"])
    return Need(memory, by("denoiser", evaluations, step_flops(size, at)))


def _draw(plan: Plan, w: Wildcards) -> Need:
    method, ipc = plan.start_method(w), int(w["ipc"])
    latent = network(plan, w["prior"]).latent(side(plan, w["dataset"], plan.config.priors[w["prior"]].view))
    candidates = (method.draws or {}).get("candidates", 1)
    rounds = classes_of(plan, w) if (method.draws or {}).get("pool") == "independent" else 1
    memory = SCIENCE + 2 * 12 * floats(64 * latent) + 8 * floats(ipc * latent) + 6 * floats(classes_of(plan, w) * latent)
    return Need(plain(memory), {"draws": 20.0 * rounds * candidates * ipc * latent})


def _tangents(plan: Plan, w: Wildcards) -> Need:
    size, n = network(plan, w["prior"]), plan.per_class(w["dataset"])
    latent = size.latent(side(plan, w["dataset"], plan.config.priors[w["prior"]].view))
    options = plan.tangents_method(w).tangents or {}
    kept = classes_of(plan, w) * int(w["ipc"]) * options.get("t_stop", 50) * options.get("d", 3) * latent
    held, k = neighbourhood(plan, w)
    one = 2.0 * held * latent + 2.0 * k**2 * latent + 20.0 * k**3  # distances, a Gram matrix, its eigenvectors
    work = classes_of(plan, w) * int(w["ipc"]) * options.get("t_stop", 50) * one
    # the stage takes as many images at once as 512 MB hold the neighbourhoods of
    group = 3 * min(512.0, floats(int(w["ipc"]) * n * latent))
    return Need(plain(TORCH + group + 6 * floats(n * latent) + 2 * floats(kept)), {"tangents": work})


def neighbourhood(plan: Plan, w: Wildcards) -> tuple[int, int]:
    """Points of a prototype's neighbourhood, at full radius, and those of them that a tangent space is of."""
    options, n = plan.tangents_method(w).tangents or {}, plan.per_class(w["dataset"])
    inside = math.ceil(options["radius"] * n) if options["radius_unit"] == "quantile" else n
    held = options["points"] if options["neighbourhood"] == "synthetic" else min(n, inside)
    k = options["k"]
    return held, max(options["d"] + 2, min(held, k) if isinstance(k, int) else math.ceil(k * held))


def _sample(plan: Plan, w: Wildcards) -> Need:
    method, size, prior = plan.sampled(w), network(plan, w["prior"]), plan.config.priors[w["prior"]]
    assert method.sampler is not None
    ipc, at, steps, start = int(w["ipc"]), side(plan, w["dataset"], prior.view), method.sampler["steps"], method.start or {}
    # of the grid, those behind where it starts
    taken = start["inversion_step"] if method.drawn else int(steps * start.get("strength", 1))
    batch = min(ipc, method.sampler["batch_size"])
    work = max(denoising(size, at, batch), floats(batch * DECODING * size.vae * at**2))
    guided = 0.0
    if method.guidance:
        tangent = (method.tangents or {}).get("d", 0) * steps * batch
        guided = 8 * floats(plan.per_class(w["dataset"]) * size.latent(at)) + 3 * floats(tangent * size.latent(at))
    count = classes_of(plan, w) * ipc
    evaluated = by("denoiser", branches(method.sampler["cfg_scale"]) * taken * count, step_flops(size, at))
    return Need(with_prior(plan, w["prior"], work, guided), added(evaluated, by("vae", count, vae_flops(size, at))))


def _cell(plan: Plan, w: Wildcards) -> Need:
    """choose and keep: a class's images or features of every group."""
    groups = (plan.sampled(w).keep or {}).get("groups", 1)
    held = groups * int(w["ipc"]) * (pixels(plan, w["dataset"]) + floats(4096)) + 6 * floats(groups * classes_of(plan, w) * 4096)
    real = floats(images(plan, w["dataset"]) * 2048) if "shard" not in w else 0
    return Need(plain(PLAIN + 200 + 2 * held), {"io": classes_of(plan, w) * held + real, "rows": groups * classes_of(plan, w)})


def row_images(plan: Plan, w: Wildcards) -> int:
    return images(plan, w["dataset"]) if w["method"] == FULL else int(w["ipc"]) * len(plan.source(w["dataset"]).classes)


def _pngs(plan: Plan, w: Wildcards) -> Need:
    n = row_images(plan, w)
    per_class = plan.per_class(w["dataset"]) if w["method"] == FULL else int(w["ipc"])
    return Need(
        plain(PLAIN + 100 + 3 * per_class * pixels(plan, w["dataset"]) + n * 500 / MB),
        {"png": n * pixels(plan, w["dataset"]), "rows": 2 * n},
    )


def _training(plan: Plan, dataset: str, student: str, settings: Settings, n: int, repeats: int) -> Need:
    """The sets in memory, the student with its optimiser's state, a batch's activations."""
    at, channels = settings.size or side(plan, dataset), plan.dataset(dataset).channels
    tested = images(plan, dataset, "test")
    held = plan.run.held_out * len(plan.source(dataset).classes)
    batch = min(settings.batch_size, n)
    # a large set is read a batch at a time; an epoch's random numbers are drawn at once
    sets = sum(
        min(1.2 * count * at**2 * channels, HELD + (READERS + 2) * batch * at**2 * channels) / MB for count in (n, tested, held)
    )
    sets += n * NUMBERS * 8 / MB
    work = floats(max(batch, min(500, 2**22 / at**2) / 4) * activations(student, at))
    epochs = settings.epochs or (settings.steps or 1) * batch / n
    seen = repeats * (epochs * n + settings.evaluations * (tested + held) / 3)
    step = by("training", seen, FLOPS_PER_FLOAT * activations(student, at))
    state = 4 * floats(parameters(student))
    return Need(Memory(TORCH + sets + state + work, TORCH + CUDA + sets + state, state + work), step, repeats)


def _teacher(plan: Plan, w: Wildcards) -> Need:
    teacher, n = plan.config.teachers[w["teacher"]], images(plan, w["dataset"])
    settings = plan.settings(teacher.protocol, teacher.student, w["dataset"], plan.per_class(w["dataset"]))
    if teacher.weights:  # only tested
        settings, n = settings.model_copy(update={"epochs": 1, "steps": None}), settings.batch_size
    return _training(plan, w["dataset"], teacher.student, settings, n, 1)


def _train(plan: Plan, w: Wildcards) -> Need:
    n = row_images(plan, w)
    per_class = plan.per_class(w["dataset"]) if w["ipc"] == "all" else int(w["ipc"])
    settings = plan.settings(w["protocol"], w["student"], w["dataset"], per_class)
    found = _training(plan, w["dataset"], w["student"], settings, n, plan.run.repeats)
    return _labelled(plan, w, found, settings, n)


def _soft_labels(plan: Plan, w: Wildcards) -> Need:
    n, student = row_images(plan, w), plan.run.students[0]
    settings = plan.settings(w["protocol"], student, w["dataset"], int(w["ipc"]))
    one = (settings.size or side(plan, w["dataset"])) ** 2 * plan.dataset(w["dataset"]).channels
    sets = min(1.2 * n * one, HELD + (READERS + 2) * min(settings.batch_size, n) * one) / MB
    return _labelled(plan, w, Need(Memory(TORCH + sets, TORCH + CUDA + sets, 0.0), turns=0), settings, n)


def _labelled(plan: Plan, w: Wildcards, rest: Need, settings: Settings, n: int) -> Need:
    """The same with the teachers that look on, or label."""
    names = plan.labellers(w["protocol"])
    at, batch = settings.size or side(plan, w["dataset"]), min(settings.batch_size, n)
    classes, epochs = len(plan.source(w["dataset"]).classes), settings.epochs or (settings.steps or 1) * batch / n
    stored = plan.soft_labels(w["dataset"], w["method"], w["ipc"], int(w["seed"]), w["protocol"])
    # an epoch's labels, where they are stored, as halves
    memory, work = rest.memory + (3 * n * classes * 2 / MB if stored else 0), rest.work
    for student in (plan.config.teachers[name].student for name in names):
        weights, active = floats(parameters(student)), floats(batch * activations(student, at) / INFERENCE)
        memory = Memory(memory.cpu + 2 * weights + active, memory.host + weights, memory.device + weights + active)
        work = added(work, by("features", plan.run.repeats * epochs * n, FLOPS_PER_FLOAT / 3 * activations(student, at)))
    return Need(memory, work, rest.turns + len(names) * plan.run.repeats)


def _extracting(plan: Plan, extractor: str, dataset: str, n: int, together: int) -> Need:
    """Of n images, ``together`` of which are in memory at an extractor's size, and a batch of those in it."""
    teacher = plan.config.teachers[plan.run.teacher]
    if extractor == TEACHER:
        student, at, batch, weights = teacher.student, plan.protocol(teacher.protocol).size, 250, parameters(teacher.student)
    else:
        student, at, batch, weights = "resnet50", 336, 50, 4e8  # ASSUME: no heavier than a ViT-L at this side
    at, together = at or side(plan, dataset), min(n, together)
    work = floats(min(batch, together) * activations(student, at) / INFERENCE)
    held = 4 * together * at**2 * plan.dataset(dataset).channels / MB
    return Need(working(weights, work, held), by("features", n, FLOPS_PER_FLOAT / 3 * activations(student, at)))


def _features(plan: Plan, w: Wildcards) -> Need:
    counts = plan.counts(w["dataset"]) if w["split"] == "train" else plan.source(w["dataset"]).counts(w["split"])
    return _extracting(plan, w["extractor"], w["dataset"], shard_images(plan, w, w["split"]), int(counts.max()))


def _embed(plan: Plan, w: Wildcards) -> Need:
    return _extracting(plan, w["extractor"], w["dataset"], classes_of(plan, w) * int(w["ipc"]), int(w["ipc"]))


def _measure(plan: Plan, w: Wildcards) -> Need:
    """Draws of at most 10,000 rows of both sets, their moments, blocks of a matrix of pairs."""
    own, real = (min(10_000, n) for n in (row_images(plan, w), images(plan, w["dataset"])))
    dim = dimensions(plan, w["dataset"], w["extractor"])
    memory = PLAIN + 2 * floats((own + 2 * real) * dim) + 6 * 8 * dim**2 / MB + 4 * 1024 * max(own, real) * 8 / MB
    read = floats((row_images(plan, w) + images(plan, w["dataset"])) * dim)
    return Need(plain(memory), {"io": read, "metrics": 20.0 * own * real * dim + 60.0 * dim**3})


def _report(plan: Plan, w: Wildcards) -> Need:
    """Few images of every row, the plane of all real ones, a shard's prototypes."""
    rows, one = len(plan.rows(int(w["ipc"]))), pixels(plan, w["dataset"])
    classes = len(plan.source(w["dataset"]).classes)
    grid = rows * min(classes, 20) * 3 * one
    prior, views = plan.config.priors[plan.run.prior], plan.dataset(w["dataset"]).views
    # where the dataset lacks its view, no method asks for it
    latent = network(plan, plan.run.prior).latent(views[prior.discovery].size) if prior.discovery in views else 0
    prototypes = floats(2 * latent * int(w["ipc"]) * classes / len(plan.shards(w["dataset"])))
    memory = TORCH + 300 + 12 * grid + 1000 * one + floats(8 * images(plan, w["dataset"])) + prototypes
    return Need(plain(memory), {"pages": 10 + rows, "io": 1000 * rows * one})


def _overview(plan: Plan, w: Wildcards) -> Need:  # noqa: ARG001
    return Need(plain(TORCH + 100), {"pages": sum(len(plan.rows(ipc)) for ipc in plan.run.ipc)})


def _paper(plan: Plan, w: Wildcards) -> Need:  # noqa: ARG001
    return Need(plain(TORCH + 100), {"pages": 1})


def _take(plan: Plan, w: Wildcards) -> Need:
    n = shard_images(plan, w, w.get("split", "train"))
    return Need(plain(PLAIN + 100), {"rows": n, "io": n * pixels(plan, w["dataset"], w.get("view"))})


def _pick(plan: Plan, w: Wildcards) -> Need:
    count = classes_of(plan, w) * int(w["ipc"])
    return Need(plain(PLAIN + 100 + 50 * pixels(plan, w["dataset"])), {"rows": count, "pixels": count * pixels(plan, w["dataset"])})


# the stages by the name of their subcommand
ESTIMATES: dict[str, Callable[[Plan, Wildcards], Need]] = {
    "ingest": _ingest,
    "label": _rows,
    "hold_out": _rows,
    "take": _take,
    "prior": _prior,
    "finetune": _finetune,
    "encode": _encode,
    "reencode": _reencode,
    "reduce": _discovery,
    "fit": _discovery,
    "select": _discovery,
    "score": _score,
    "localize": _localize,
    "patch_features": _patch_features,
    "crop": _crop,
    "invert": _invert,
    "draw": _draw,
    "tangents": _tangents,
    "pick": _pick,
    "imported": _pick,
    "sample": _sample,
    "choose": _cell,
    "keep": _cell,
    "pngs": _pngs,
    "teacher": _teacher,
    "features": _features,
    "embed": _embed,
    "measure": _measure,
    "soft_labels": _soft_labels,
    "train": _train,
    "report": _report,
    "overview": _overview,
    "paper": _paper,
}
# what a stage's process loads besides; all others need PyTorch
LIGHT = ("ingest", "label", "hold_out", "take", "localize", "pick", "imported", "choose", "keep", "pngs")
SCIENTIFIC = ("reduce", "fit", "select", "draw", "tangents", "measure")
# rules whose stage is not the beginning of their name
OTHERWISE = {"candidates": "sample"}


def start(stage: str, forked: bool) -> str:
    """The kind of work that starting its process is."""
    if forked:
        return "start_forked"
    return "start" if stage in LIGHT else "start_science" if stage in SCIENTIFIC else "start_torch"


def stage_of(rule: str) -> str | None:
    """The stage that a rule's jobs run: its name, up to what tells it from another rule of that stage; None for `all`."""
    name = OTHERWISE.get(rule, rule)
    found = [stage for stage in ESTIMATES if name == stage or name.startswith(f"{stage}_")]
    return max(found, key=len, default=None)
