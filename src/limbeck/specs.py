"""The params string of every rule: what a stage reads of the config, and a fingerprint of the sources it can reach.

Each function takes the plan and a job's wildcards, and returns the config slice and the modules that the stage loads by name
(what it imports by statement is found without being told).
"""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from limbeck import components
from limbeck.config import ARITHMETIC, OF_A_LAYOUT, OF_PRIOR, PSEUDO, Dataset, Prior
from limbeck.data.folders import stamp
from limbeck.data.sources import SOURCES
from limbeck.errors import LimbeckError
from limbeck.evaluation_specs import EVALUATION, Spec, Wildcards, features
from limbeck.methods import patching_options, scoring_options
from limbeck.priors.registry import FAMILIES
from limbeck.provenance import fingerprint
from limbeck.students.registry import STUDENTS

if TYPE_CHECKING:
    from limbeck.plan import Plan

# the page's map of a class: the plane of its latents' two first principal components
MAP = {"reducer": "pca", "components": 2, "standardize": False}


def build(plan: "Plan", stage: str, w: Wildcards) -> str:
    """The params string of ``stage`` for a job's wildcards."""
    slice_, modules = SPECS[stage](plan, w)
    code = fingerprint(f"limbeck.stages.{stage}", *modules)
    return json.dumps({**slice_, "code": code}, sort_keys=True, separators=(",", ":"))


def _ingest(plan: "Plan", w: Wildcards) -> Spec:
    dataset = plan.dataset(w["dataset"])
    source = plan.source(w["dataset"])
    if w["view"] not in dataset.views:
        raise LimbeckError(f"datasets.{w['dataset']}.views: no view {w['view']!r}; known: {sorted(dataset.views)}")
    shard = plan.class_range(w["dataset"], int(w["shard"]))
    return {
        "dataset": w["dataset"],
        "source": _source(dataset),
        "view": dataset.views[w["view"]].model_dump(mode="json"),
        "split": w["split"],
        "classes": [shard.start, shard.stop],
        "bad_files": dataset.bad_files,
        "stamp": "" if dataset.path.startswith("package:") else source.stamp(),
    }, [SOURCES[dataset.source][0]]


def _source(dataset: Dataset) -> dict[str, Any]:
    """What a source is opened by."""
    keys = {"source", "path", "classes", "channels", *(key for key, layout in OF_A_LAYOUT.items() if layout == dataset.source)}
    return dataset.model_dump(mode="json", include=keys)


def _label(plan: "Plan", w: Wildcards) -> Spec:
    spec = plan.dataset(w["dataset"])
    shard = plan.class_range(w["dataset"], int(w["shard"]))
    slice_ = spec.model_dump(mode="json", include=set(PSEUDO))
    return {"dataset": w["dataset"], **slice_, "classes": [shard.start, shard.stop]}, []


def _take(plan: "Plan", w: Wildcards) -> Spec:
    shard = plan.class_range(w["dataset"], int(w["shard"]))
    names = list(plan.source(w["dataset"]).classes)
    slice_ = {"dataset": w["dataset"], "of": plan.parent(w["dataset"]), "names": names}
    return {**slice_, "classes": [shard.start, shard.stop]}, []


def _prior(plan: "Plan", w: Wildcards) -> Spec:
    plan.known("priors", w["prior"], plan.config.priors)
    prior = plan.config.priors[w["prior"]]
    slice_ = prior.model_dump(mode="json", include={"family", "weights", "train", *(["vae"] if prior.vae else [])})
    load: dict[str, Any] = {"dtype": prior.dtype, **({"variant": prior.variant} if prior.variant else {})}
    if prior.family == "sd3":
        load["t5"] = prior.t5
    return {**slice_, "load": load}, [FAMILIES[prior.family][0], *(["limbeck.priors.training"] if prior.train else [])]


def _finetune(plan: "Plan", w: Wildcards) -> Spec:
    prior = plan.config.priors[w["prior"]]
    assert prior.finetune is not None
    name = prior.finetune.dataset
    slice_ = {
        "family": prior.family,
        "prior": _load_options(plan, name, prior),  # in float32, whatever it computes in once it is tuned
        "dtype": prior.dtype,
        "finetune": prior.finetune.read(),
    }
    return slice_, [FAMILIES[prior.family][0]]


def _size(plan: "Plan", dataset: str, view: str) -> int:
    views = plan.dataset(dataset).views
    if view not in views:
        raise LimbeckError(f"datasets.{dataset}.views: no view {view!r}; known: {sorted(views)}")
    return views[view].size


def _encode(plan: "Plan", w: Wildcards) -> Spec:
    prior = plan.config.priors[w["vae"]]
    return {"size": _size(plan, w["dataset"], w["view"]), "batch": prior.encode_batch, **_arithmetic(prior, "compute")}, []


def _reencode(plan: "Plan", w: Wildcards) -> Spec:
    name = plan.dataset(w["dataset"]).of or w["dataset"]  # the images' own source
    dataset, prior = plan.dataset(name), plan.config.priors[w["prior"]]
    _size(plan, name, prior.view)
    return {
        "dataset": name,
        "source": _source(dataset),
        "view": dataset.views[prior.view].model_dump(mode="json"),
        **_arithmetic(prior, "compute"),
    }, [SOURCES[dataset.source][0]]


def _reduce(plan: "Plan", w: Wildcards) -> Spec:
    return {"embedding": plan.embedding_of(w["embedding"], w["dataset"])}, []


def _fit(plan: "Plan", w: Wildcards) -> Spec:
    options = plan.fit_of(w["fit"], w["dataset"])
    return {"fit": options}, [components.FIT[options["kind"]]]


def _tangents(plan: "Plan", w: Wildcards) -> Spec:
    method = plan.tangents_method(w)
    return {"tangents": method.tangents, "ipc": int(w["ipc"]), "seed": int(w["seed"])}, []


def _invert(plan: "Plan", w: Wildcards) -> Spec:
    prior = plan.config.priors[w["prior"]]
    options = {"inversion": plan.inversion_of(w["inversion"], w["dataset"]), "family": prior.family}
    return {**options, "prior": _refined(plan, w["dataset"], prior)}, [FAMILIES[prior.family][0]]


def _score(plan: "Plan", w: Wildcards) -> Spec:
    prior, options = plan.config.priors[w["prior"]], plan.judged(w["scoring"], w["dataset"])
    loaded = {**_load_options(plan, w["dataset"], prior, options["view"]), **_arithmetic(prior)}
    slice_ = {"family": prior.family, "prior": loaded}
    return {**slice_, "scoring": scoring_options(options)}, [FAMILIES[prior.family][0]]


def _localize(plan: "Plan", w: Wildcards) -> Spec:
    return {"patching": patching_options(plan.judged(w["patching"], w["dataset"]))}, []


def _crop(plan: "Plan", w: Wildcards) -> Spec:
    student = plan.config.teachers[w["teacher"]].student
    options = patching_options(plan.judged(w["patching"], w["dataset"]))
    return {"cropping": options, "seed": int(w["seed"])}, [STUDENTS[student].module]


def _patch_features(plan: "Plan", w: Wildcards) -> Spec:
    options = plan.embedding_of(w["embedding"], w["dataset"])
    if options["features"] not in OF_PRIOR:
        slice_, modules = features(plan, {"extractor": options["features"]})
        return {"patches": options, **slice_}, modules
    prior = plan.config.priors[w["vae"]]
    # not compiled: the network is left behind a block
    loaded = {**_load_options(plan, w["dataset"], prior, options["view"]), **_arithmetic(prior, "compute", "attention")}
    slice_ = {"family": prior.family, "prior": loaded}
    return {"patches": options, **slice_}, [FAMILIES[prior.family][0]]


def _draw(plan: "Plan", w: Wildcards) -> Spec:
    method = plan.start_method(w)
    return {"draws": method.draws, "ipc": int(w["ipc"]), "seed": int(w["seed"])}, []


def _select(plan: "Plan", w: Wildcards) -> Spec:
    ipc = int(w["ipc"])
    options = plan.discovery_options(w["discovery"], ipc, w["dataset"])
    return {"discovery": options, "ipc": ipc, "seed": int(w["seed"])}, [components.DISCOVERY[options["kind"]]]


def _pick(plan: "Plan", w: Wildcards) -> Spec:
    dataset = plan.dataset(w["dataset"])
    return {"size": dataset.views[dataset.view].size, "ipc": int(w["ipc"]), "seed": int(w["seed"])}, []


def _imported(plan: "Plan", w: Wildcards) -> Spec:
    ipc, dataset = int(w["ipc"]), plan.dataset(w["dataset"])
    path, files = plan.imported(w["method"], ipc, w["dataset"], int(w["seed"]))
    shard = plan.class_range(w["dataset"], int(w["shard"]))
    return {
        "method": w["method"],
        "path": path,
        "view": dataset.views[dataset.view].model_dump(mode="json"),
        "channels": dataset.channels,
        "ipc": ipc,
        "stamp": stamp(file for label in shard for file in files[label]),
    }, []


def _load_options(plan: "Plan", dataset: str, prior: Prior, view: str | None = None) -> dict[str, Any]:
    """What a stored prior is loaded with, for images of its own view or of another; without a refiner."""
    options: dict[str, Any] = {"size": _size(plan, dataset, view or prior.view)}
    return options if prior.family == "dit" else {**options, "prompt": prior.prompt}


def _refined(plan: "Plan", dataset: str, prior: Prior) -> dict[str, Any]:
    """The same, with its refiner where it has one, and how it computes."""
    refiner = {"refiner_start": prior.refiner_start} if prior.refiner else {}
    return {**_load_options(plan, dataset, prior), **refiner, **_arithmetic(prior)}


def _arithmetic(prior: Prior, *keys: str) -> dict[str, Any]:
    """How a prior computes, as far as it is said."""
    return {key: value for key in keys or ARITHMETIC if (value := getattr(prior, key)) != ARITHMETIC[key]}


def _sample(plan: "Plan", w: Wildcards) -> Spec:
    method = plan.sampled(w)
    prior, dataset = plan.config.priors[w["prior"]], plan.dataset(w["dataset"])
    return {
        "guidance": list(method.guidance),
        "tangents": method.tangents,
        "start": method.start,
        "sampler": method.sampler,
        "family": prior.family,
        "prior": _refined(plan, w["dataset"], prior),
        "size": dataset.views[dataset.view].size,
        "channels": dataset.channels,
        "ipc": int(w["ipc"]),
        "seed": int(w["seed"]),
    }, [FAMILIES[prior.family][0], *method.modules()]


def _choose(plan: "Plan", w: Wildcards) -> Spec:
    method = plan.method(w["method"], int(w["ipc"]), w["dataset"])
    return {"keep": method.keep, "ipc": int(w["ipc"]), "seed": int(w["seed"])}, []


def _keep(plan: "Plan", w: Wildcards) -> Spec:  # noqa: ARG001
    return {"ipc": int(w["ipc"]), "seed": int(w["seed"])}, []


def _pngs(plan: "Plan", w: Wildcards) -> Spec:  # noqa: ARG001
    return {"dataset": w["dataset"], "method": w["method"], "ipc": int(w["ipc"]), "seed": int(w["seed"])}, []


SPECS: dict[str, Callable[["Plan", Wildcards], Spec]] = {
    "ingest": _ingest,
    "label": _label,
    "take": _take,
    "prior": _prior,
    "finetune": _finetune,
    "encode": _encode,
    "reencode": _reencode,
    "reduce": _reduce,
    "fit": _fit,
    "tangents": _tangents,
    "invert": _invert,
    "score": _score,
    "localize": _localize,
    "crop": _crop,
    "patch_features": _patch_features,
    "draw": _draw,
    "select": _select,
    "pick": _pick,
    "imported": _imported,
    "sample": _sample,
    "choose": _choose,
    "keep": _keep,
    "pngs": _pngs,
    **EVALUATION,
}
