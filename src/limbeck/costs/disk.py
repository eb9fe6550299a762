"""Bytes of what a job writes, by the schemas of its artifacts (``limbeck.artifacts``) and the config."""

import math
from collections.abc import Callable, Mapping

import numpy as np

from limbeck import artifacts
from limbeck.artifacts import CONFUSED, ArraySpec, Schema
from limbeck.methods import FULL
from limbeck.plan import Plan
from limbeck.priors.sizes import MB
from limbeck.resources import (
    Wildcards,
    classes_of,
    dimensions,
    neighbourhood,
    network,
    parameters,
    pixels,
    row_images,
    shard_images,
    side,
)
from limbeck.students.registry import STUDENTS

# shares of their size that zstd leaves of arrays: of pixels by channels (fashion-mini; photos), of class indices and names
PIXELS, SMALL_INTEGERS = {1: 0.44, 3: 0.84}, 0.03
PNG = 0.57  # of the same pixels
ARRAY, ARTIFACT, JSON = 1000, 2500, 1500  # bytes of an array's metadata, an artifact's attributes and entries, a JSON file
PAGE, PICTURE = 500_000, 1200  # of a report: its plots, and each of the images it shows
SHOWN = 100  # images of a row on the page, at most
SPECTRUM = 4  # eigenvalues kept beyond the tangent space's (limbeck.geometry.tangent.EXTRA)

Lengths = Mapping[str, float]


def bytes_of(plan: Plan, stage: str, w: Wildcards) -> float:
    """Of everything that a job leaves; logs and measurements aside."""
    return WRITTEN[stage](plan, w) + 2 * JSON  # the sidecar and Snakemake's own record


def stored(plan: Plan, dataset: str, schema: Schema, lengths: Lengths, *optional: str) -> float:
    """Of an artifact: its arrays without the optional ones but these, along axes of these lengths."""
    chosen = [spec for name, spec in schema.arrays.items() if not spec.optional or name in optional]
    names = sum(len(name) + 4 for name in plan.source(dataset).classes)
    return ARTIFACT + names + sum(ARRAY + _array(spec, lengths) for spec in chosen)


def _array(spec: ArraySpec, lengths: Lengths) -> float:
    size = math.prod(lengths[axis] for axis in spec.dims) * np.dtype(spec.dtype).itemsize
    if not spec.compress:
        return float(size)
    return float(size) * (PIXELS.get(int(lengths["channel"]), 0.84) if "channel" in spec.dims else SMALL_INTEGERS)


def _seen(plan: Plan, dataset: str, view: str | None = None) -> dict[str, float]:
    at = side(plan, dataset, view)
    return {"height": at, "width": at, "channel": plan.dataset(dataset).channels, "byte": 30}


def _latent(plan: Plan, dataset: str, prior: str, view: str) -> dict[str, float]:
    if prior == "none":
        return {}
    size = network(plan, prior)
    places = math.sqrt(size.positions(side(plan, dataset, view)))
    return {"latent_channel": size.channels, "latent_height": places, "latent_width": places}


def _ingest(plan: Plan, w: Wildcards) -> float:
    n = shard_images(plan, w, w.get("split", "train"), w["view"])
    return stored(plan, w["dataset"], artifacts.IMAGES, {**_seen(plan, w["dataset"], w["view"]), "image": n})


def _hold_out(plan: Plan, w: Wildcards) -> float:
    n = plan.run.held_out * len(plan.source(w["dataset"]).classes)
    return stored(plan, w["dataset"], artifacts.HELD_OUT, {**_seen(plan, w["dataset"], w["view"]), "image": n})


def _take(plan: Plan, w: Wildcards) -> float:
    kinds = {"vae": _encode, "inversion": _invert, "scoring": _score, "embedding": _patch_features}
    return next((size for key, size in kinds.items() if key in w), _ingest)(plan, w)


def _prior(plan: Plan, w: Wildcards) -> float:
    prior = plan.config.priors[w["prior"]]
    return network(plan, w["prior"]).all * (4 if prior.train or prior.dtype == "float32" else 2)


def _encode(plan: Plan, w: Wildcards) -> float:
    lengths = {"image": shard_images(plan, w, view=w["view"]), **_latent(plan, w["dataset"], w["vae"], w["view"])}
    return stored(plan, w["dataset"], artifacts.LATENTS, lengths)


def _reencode(plan: Plan, w: Wildcards) -> float:
    shape = _latent(plan, w["dataset"], w["prior"], plan.config.priors[w["prior"]].view)
    return stored(plan, w["dataset"], artifacts.TARGETS, {"prototype": classes_of(plan, w) * int(w["ipc"]), **shape})


def _embedding(plan: Plan, w: Wildcards) -> float:
    options, space = plan.embedding_of(w["embedding"], w["dataset"]), _width(plan, w)
    lengths = {"image": shard_images(plan, w, view=w["view"]), "component": options.get("components", space)}
    linear = ("axes", "centres") if options.get("reducer") == "pca" else ()
    return stored(plan, w["dataset"], artifacts.EMBEDDING, {**lengths, "class": classes_of(plan, w), "feature": space}, *linear)


def _width(plan: Plan, w: Wildcards) -> float:
    """Floats of an image where an embedding starts."""
    features = plan.embedding_of(w["embedding"], w["dataset"]).get("features")
    if features is not None and features in plan.config.extractor_names:
        return dimensions(plan, w["dataset"], features)
    return network(plan, w["vae"]).latent(side(plan, w["dataset"], w["view"]))


def _patch_features(plan: Plan, w: Wildcards) -> float:
    n, width = shard_images(plan, w), min(_width(plan, w), 2048)
    return stored(plan, w["dataset"], artifacts.EMBEDDING, {"image": n, "component": width})


def _fit(plan: Plan, w: Wildcards) -> float:
    n, options = shard_images(plan, w, view=w["view"]), plan.fit_of(w["fit"], w["dataset"])
    if options["kind"] in ("divisive", "agglomerative"):
        nodes = min(2 * n, classes_of(plan, w) * 2 ** (options.get("depth", 60) + 1))
        return stored(plan, w["dataset"], artifacts.TREE, {"image": n, "node": nodes})
    return stored(plan, w["dataset"], artifacts.CLUSTERS, {"image": n})


def _select(plan: Plan, w: Wildcards) -> float:
    options = plan.discovery_options(w["discovery"], int(w["ipc"]), w["dataset"])
    lengths = {"prototype": classes_of(plan, w) * int(w["ipc"]), "part": options.get("parts", 1), "edge": 3}
    shape = {} if "parts" in options else _latent(plan, w["dataset"], w["vae"], w["view"])
    of_latents, of_patches = ("centroids", "members", "centroid_spread", "member_spread"), ("parts", "boxes")
    extra = of_latents if shape else of_patches if "parts" in options else ()
    return stored(plan, w["dataset"], artifacts.PROTOTYPES, {**lengths, **shape}, *extra)


def _score(plan: Plan, w: Wildcards) -> float:
    options = plan.judged(w["scoring"], w["dataset"])
    n = min(shard_images(plan, w, view=options["view"]), (options["real_images_per_class"] or 10**9) * classes_of(plan, w))
    return stored(plan, w["dataset"], artifacts.SCORES, {"image": n, **_latent(plan, w["dataset"], w["prior"], options["view"])})


def _patches(plan: Plan, w: Wildcards) -> float:
    options = plan.judged(w["patching"], w["dataset"])
    limit = options["real_images_per_class"] if "real_images_per_class" in options else options["crop_images"]
    n = min(shard_images(plan, w), (limit or 10**9) * classes_of(plan, w))
    return stored(plan, w["dataset"], artifacts.PATCHES, {"patch": n, "edge": 3})


def _invert(plan: Plan, w: Wildcards) -> float:
    options, view = plan.inversion_of(w["inversion"], w["dataset"]), plan.config.priors[w["prior"]].view
    lengths = {"class": classes_of(plan, w), "rung": options["inversion_step"] + 1, "image": shard_images(plan, w)}
    kept = ("latents",) if options.get("keep_latents") else ()
    return stored(plan, w["dataset"], artifacts.STATISTICS, {**lengths, **_latent(plan, w["dataset"], w["prior"], view)}, *kept)


def _draw(plan: Plan, w: Wildcards) -> float:
    return stored(plan, w["dataset"], artifacts.STARTS, {"class": classes_of(plan, w), "block": 1, "term": 4})


def _tangents(plan: Plan, w: Wildcards) -> float:
    options, (held, k) = plan.tangents_method(w).tangents or {}, neighbourhood(plan, w)
    d, n = options["d"], classes_of(plan, w) * int(w["ipc"])
    lengths = {"image": n, "guided_step": options["t_stop"], "point": held, "neighbour": k, "tangent": d, "value": d + SPECTRUM}
    return stored(plan, w["dataset"], artifacts.TANGENTS, lengths, "patch")


def _distilled(plan: Plan, w: Wildcards) -> float:
    method = plan.sampled(w)
    lengths = {**_seen(plan, w["dataset"]), "image": classes_of(plan, w) * int(w["ipc"])}
    if method.sampler is None:
        return stored(plan, w["dataset"], artifacts.DISTILLED, lengths, "indices")
    lengths |= {"step": method.sampler["steps"], **_latent(plan, w["dataset"], w["prior"], plan.config.priors[w["prior"]].view)}
    return stored(plan, w["dataset"], artifacts.DISTILLED, lengths, "latents", "step_norms", "x0_norms")


def _choose(plan: Plan, w: Wildcards) -> float:
    groups = (plan.sampled(w).keep or {})["groups"]
    return stored(plan, w["dataset"], artifacts.SUBGROUPS, {"class": classes_of(plan, w), "group": groups})


def _pngs(plan: Plan, w: Wildcards) -> float:
    n, png = row_images(plan, w), pixels(plan, w["dataset"]) * MB * PNG + 100
    return n * (png + png + 250 + 200)  # as a folder and as a zip with its entries, and a line of the manifest in both


def _teacher(plan: Plan, w: Wildcards) -> float:
    student = STUDENTS[name := plan.config.teachers[w["teacher"]].student]
    if student.family != "convnet":
        return 4 * parameters(name) + JSON
    width, depth, channels = student.options["width"], student.options["depth"], plan.dataset(w["dataset"]).channels
    classes, places = len(plan.source(w["dataset"]).classes), (side(plan, w["dataset"]) // 2**depth) ** 2
    return 4 * (9 * width * (channels + (depth - 1) * width) + width * places * classes) + 2 * JSON


def _features(plan: Plan, w: Wildcards) -> float:
    n = shard_images(plan, w, w["split"]) if "split" in w else classes_of(plan, w) * int(w["ipc"])
    if w.get("method") == FULL:
        n = shard_images(plan, w)
    lengths = {"image": n, "feature": dimensions(plan, w["dataset"], w["extractor"])}
    return stored(plan, w["dataset"], artifacts.FEATURES, lengths, "correct")


def _soft_labels(plan: Plan, w: Wildcards) -> float:
    n, settings = row_images(plan, w), plan.settings(w["protocol"], plan.run.students[0], w["dataset"], int(w["ipc"]))
    epochs = settings.epochs or (settings.steps or 1) * min(settings.batch_size, n) / n
    top, classes = settings.top_k, len(plan.source(w["dataset"]).classes)
    lengths, optional = {"epoch": epochs, "image": n, "entry": top or classes}, ("indices", "rest") if top else ()
    return stored(plan, w["dataset"], artifacts.SOFT_LABELS, lengths, *optional)


def _result(plan: Plan, w: Wildcards) -> float:
    """Of a metrics or a student file: a number per class and quantity."""
    return 2 * JSON + 100 * len(plan.source(w["dataset"]).classes)


def _train(plan: Plan, w: Wildcards) -> float:
    """And of every repeat which class is taken for which, a count a line."""
    classes = len(plan.source(w["dataset"]).classes)
    return _result(plan, w) + plan.run.repeats * (10 * classes**2 if classes <= CONFUSED else 0)


def _report(plan: Plan, w: Wildcards) -> float:
    shown = min(SHOWN, int(w["ipc"]) * len(plan.source(w["dataset"]).classes))
    return PAGE + PICTURE * shown * len(plan.rows(int(w["ipc"])))


WRITTEN: dict[str, Callable[[Plan, Wildcards], float]] = {
    "ingest": _ingest,
    "label": _ingest,
    "hold_out": _hold_out,
    "take": _take,
    "prior": _prior,
    "finetune": _prior,
    "encode": _encode,
    "reencode": _reencode,
    "reduce": _embedding,
    "fit": _fit,
    "select": _select,
    "score": _score,
    "localize": _patches,
    "patch_features": _patch_features,
    "crop": _patches,
    "invert": _invert,
    "draw": _draw,
    "tangents": _tangents,
    "pick": _distilled,
    "imported": _distilled,
    "sample": _distilled,
    "choose": _choose,
    "keep": _distilled,
    "pngs": _pngs,
    "teacher": _teacher,
    "features": _features,
    "embed": _features,
    "measure": _result,
    "soft_labels": _soft_labels,
    "train": _train,
    "report": _report,
    "overview": lambda plan, w: float(PAGE),  # noqa: ARG005
    "paper": lambda plan, w: float(PAGE),  # noqa: ARG005
}
