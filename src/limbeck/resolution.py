"""From a method's line in the config to its composition with every option resolved; what makes no sense is refused in one line."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from limbeck.config import DIFT, NO_FEATURES, OF_PRIOR, TEACHER, VAE, Config, Model, Prior, View
from limbeck.derived import lineage
from limbeck.errors import LimbeckError, first_line
from limbeck.methods import (
    BY_FAMILY,
    BY_IPC,
    CFG_SCALE,
    DISCOVERY,
    GUIDANCE,
    KEEP,
    LOW_IPC,
    METHODS,
    SOLVERS,
    START,
    Method,
)
from limbeck.options import Imported, Sampler

# What a reducer does not read must not name its embedding.
UNREAD = {"umap": (), "pca": ("n_neighbors", "min_dist"), "none": ("n_neighbors", "min_dist", "components")}
WHOLE = 64  # pixels; images up to this side are not cut into patches
MOSAIC_IPC = 10  # mosaics of four patches up to this IPC, single patches above
T = TypeVar("T")
COMPOSITION = ("discovery", "start", "guidance", "keep", "generate")
# why ready-made images leave each of them, and a prior, no sense
NOT_IMPORTED = {
    "discovery": "nothing is discovered",
    "start": "nothing starts anywhere",
    "guidance": "there is nothing to guide",
    "keep": "there are no groups to choose among",
    "generate": "nothing is generated",
    "prior": "no prior makes them",
}


def resolve_option(value: Any, key: str, ipc: int, prior: str, dataset: str) -> Any:
    """The value of an option that may be a mapping by IPC, prior or dataset."""
    if not isinstance(value, Mapping):
        return value
    for name in (ipc, str(ipc), dataset, prior):
        if name in value:
            return value[name]
    raise LimbeckError(f"{key}: no value for ipc {ipc}, dataset {dataset} or prior {prior}; it has {sorted(map(str, value))}")


def _choose(table: Mapping[str, T], kind: Any, key: str) -> T:
    if not isinstance(kind, str) or kind not in table:
        raise LimbeckError(f"{key}: unknown component {kind!r}; choose one of {sorted(table)}")
    return table[kind]


def resolve(config: Config, name: str, ipc: int, prior: str, dataset: str) -> Method:
    """The method ``name`` with its options resolved for one cell of the table.

    Raises
    ------
    LimbeckError: unknown method or base, unknown option, a value out of range, or a composition without sense.
    """
    if name in config.methods:
        spec = dict(config.methods[name])
    elif name in METHODS:
        spec = {"base": name}
    else:
        raise LimbeckError(f"run.methods: unknown method {name!r}; known: {sorted({*config.methods, *METHODS})}")
    where = f"methods.{name}"
    base = spec.pop("base", None)
    if not isinstance(base, str) or base not in METHODS:
        raise LimbeckError(f"{where}.base: unknown base {base!r}; choose one of {sorted(METHODS)}")
    if "imported" in METHODS[base]:
        _check_imported(where, spec)
    own_prior = resolve_option(spec.pop("prior", None), f"{where}.prior", ipc, prior, dataset)
    prior = _own_prior(config, own_prior or prior, prior, f"{where}.prior")
    for key in ("keep", "generate"):
        if isinstance(spec.get(key), Mapping):
            raise LimbeckError(f"{where}.{key}: decides which rules make the images, so it cannot be a mapping; name two methods")
    spec = {key: resolve_option(value, f"{where}.{key}", ipc, prior, dataset) for key, value in spec.items()}
    own = {key: spec.pop(key) for key in COMPOSITION if key in spec}
    composition = {"start": "noise", "guidance": [], "keep": "all", **METHODS[base], **own}
    of_family = METHODS[base].get("by_family", {}).get(config.priors[prior].family, {})
    composition["options"] = METHODS[base].get("options", {}) | of_family

    parts = _parts(where, composition)
    _check_composition(where, composition)

    fields = {key for _, _, model in parts for key in model.model_fields}
    for key in spec:
        if key not in fields:
            raise LimbeckError(f"{where}.{key}: unknown option; allowed: {sorted({*fields, *COMPOSITION, 'base', 'prior'})}")
    roles = ("discovery", "start", "guidance", "keep", "sampler", "imported")
    built: dict[str, list[dict[str, Any]]] = {role: [] for role in roles}
    for role, kind, model in parts:
        chosen = {key: value for key, value in (composition["options"] | spec).items() if key in model.model_fields}
        built[role].append({"kind": kind, **_validated(model, chosen, where)})
    _fill(built, ipc, config.priors[prior])
    _fill_patches(where, built, ipc, config, prior, dataset)
    _check_solver(where, built, config.priors[prior], prior)
    _check_extractors(where, built, config)
    _check_guidance(where, built)
    return Method(
        name=name,
        discovery=next(iter(built["discovery"]), None),
        guidance=tuple(built["guidance"]),
        sampler=next(iter(built["sampler"]), None),
        prior=prior,
        start=next(iter(built["start"]), None),
        keep=next(iter(built["keep"]), None),
        imported=next(iter(built["imported"]), None),
    )


def _parts(where: str, composition: Mapping[str, Any]) -> list[tuple[str, str, type[Model]]]:
    """(role, kind, options) of every component of a composition."""
    parts: list[tuple[str, str, type[Model]]] = []
    discovery = composition["discovery"]
    if discovery is not None:
        parts.append(("discovery", discovery, _choose(DISCOVERY, discovery, f"{where}.discovery").options))
    for kind in composition["guidance"]:
        parts.append(("guidance", kind, _choose(GUIDANCE, kind, f"{where}.guidance")))
    start = _choose(START, composition["start"], f"{where}.start")
    if start is not None:
        parts.append(("start", composition["start"], start))
    keep = _choose(KEEP, composition["keep"], f"{where}.keep")
    if keep is not None:
        parts.append(("keep", composition["keep"], keep))
    if composition["generate"]:
        parts.append(("sampler", "sampler", Sampler))
    if "imported" in composition:
        parts.append(("imported", "imported", Imported))
    return parts


def _own_prior(config: Config, own: Any, run: str, where: str) -> str:
    """A method's prior: the run's, or one with the same VAE, so that both work in the same latents."""
    if not isinstance(own, str) or own not in config.priors:
        raise LimbeckError(f"{where}: unknown name {own!r}; known: {sorted(config.priors)}")
    if lineage(config, own)[-1] != lineage(config, run)[-1]:
        raise LimbeckError(f"{where}: {own!r} has another VAE than run.prior {run!r}; name one tuned from it, or null")
    return str(own)


def _check_imported(where: str, spec: Mapping[str, Any]) -> None:
    """What has no meaning for images that are ready-made."""
    if "path" not in spec:
        raise LimbeckError(f"{where}.path: base imported needs the folder of its images, <path>/<class>/<image>")
    for key, value in spec.items():
        if key != "path" and (value or key not in NOT_IMPORTED):
            why = NOT_IMPORTED.get(key, "nothing reads it")
            raise LimbeckError(f"{where}.{key}: the images of base imported are ready-made, so {why}; leave it out")


def _check_composition(where: str, composition: dict[str, Any]) -> None:
    if not composition["generate"] and composition["discovery"] is None and "imported" not in composition:
        raise LimbeckError(f"{where}: neither generates nor discovers; set 'discovery' or 'generate: true'")
    if not composition["generate"] and composition["guidance"]:
        raise LimbeckError(f"{where}.guidance: keeps real images, so there is nothing to guide; set 'generate: true'")
    if not composition["generate"] and composition["start"] != "noise":
        raise LimbeckError(f"{where}.start: keeps real images, so nothing starts anywhere; set 'generate: true'")
    if not composition["generate"] and composition["keep"] != "all":
        raise LimbeckError(f"{where}.keep: keeps real images, so there are no groups to choose among; set 'generate: true'")
    discovery = composition["discovery"]
    if composition["generate"] and discovery is not None and DISCOVERY[discovery].judge:
        raise LimbeckError(f"{where}.generate: {discovery!r} chooses patches of images, which have no latents; set generate: false")
    if composition["start"] == "prototype" and discovery is None:
        raise LimbeckError(f"{where}.start: has no prototypes to start from; set 'discovery'")
    if {"mode", "manifold"} <= set(composition["guidance"]):
        raise LimbeckError(f"{where}.guidance: 'manifold' corrects its own mode guidance; leave 'mode' out")
    if composition["guidance"] and composition["discovery"] is None:
        raise LimbeckError(f"{where}.guidance: has no prototypes to guide towards; set 'discovery'")


def _check_extractors(where: str, built: Mapping[str, list[dict[str, Any]]], config: Config) -> None:
    for key, role in (("features", "discovery"), ("extractor", "keep")):
        for options in built[role]:
            own = [] if role == "keep" else [*OF_PRIOR, NO_FEATURES] if DISCOVERY[options["kind"]].judge else [VAE]
            known = [*own, *config.extractor_names]
            if options.get(key, TEACHER) not in known:
                raise LimbeckError(f"{where}.{key}: unknown extractor {options[key]!r}; known: {known}")


def _check_guidance(where: str, built: Mapping[str, list[dict[str, Any]]]) -> None:
    """What would be guided beyond the last step."""
    for guidance in built["guidance"]:
        steps = built["sampler"][0]["steps"]
        if guidance.get("t_stop", 0) > steps:
            raise LimbeckError(f"{where}.t_stop: {guidance['t_stop']} is beyond the {steps} steps")
        if guidance.get("prior_injection_steps", 0) > steps:
            raise LimbeckError(f"{where}.prior_injection_steps: {guidance['prior_injection_steps']} is beyond the {steps} steps")
        _check_annealing(where, guidance)
    for start in (each for each in built["start"] if each["kind"] == "prototype"):
        _check_prototype_start(where, start["strength"], built)


def _check_prototype_start(where: str, strength: float, built: Mapping[str, list[dict[str, Any]]]) -> None:
    """Steps that are taken, and guidance in one of them: its steps are counted on the whole grid."""
    steps = built["sampler"][0]["steps"]
    taken = int(steps * strength)
    if strength and not taken:
        raise LimbeckError(f"{where}.strength: {strength:g} of {steps} steps is none; raise it, or set 0 to decode the prototypes")
    for guidance in built["guidance"]:
        if guidance.get("t_stop", steps) <= steps - taken:
            raise LimbeckError(
                f"{where}.t_stop: guidance ends after {guidance['t_stop']} steps, sampling begins with {steps - taken}"
            )
        if guidance.get("prior_injection_steps", 0) >= taken:
            pis = guidance["prior_injection_steps"]
            raise LimbeckError(f"{where}.prior_injection_steps: {pis} leave none of the {taken} steps that are taken to align")


def _check_annealing(where: str, guidance: dict[str, Any]) -> None:
    """A warm-up that lasts as long as the guidance would leave the radius as it is, whatever ``anneal`` says."""
    annealed = guidance.get("anneal", "none") != "none" and guidance["neighbourhood"] == "real" and guidance["correction"] != "none"
    if annealed and guidance["t_stop"] > 1 and guidance["warmup"] >= guidance["t_stop"] - 1:
        raise LimbeckError(
            f"{where}.warmup: {guidance['warmup']} of {guidance['t_stop']} guided steps leave none to anneal; lower it, or set "
            "anneal: none"
        )


def check_reencoded(method: Method, prior: str) -> None:
    """What a method cannot have where only the chosen images are encoded at the size that the prior generates."""
    if method.drawn:
        raise LimbeckError(f"priors.{prior}.discovery_view: {method.name} inverts latents of 'view'; drop discovery_view")
    for guidance in (*method.guidance, *([method.start] if method.start else [])):
        where, why = f"methods.{method.name}", f"priors.{prior}.discovery_view leaves no latents of the whole class at its 'view'"
        if guidance.get("target", "member") != "member":
            raise LimbeckError(f"{where}.target: {why}, so no means of clusters; set target: member, or drop discovery_view")
        if method.tangents:
            raise LimbeckError(f"{where}: {why}, so no tangent spaces; drop discovery_view")
        if guidance.get("kernel", "rbf") != "rbf" and guidance["bandwidth"] is None:
            raise LimbeckError(f"{where}.bandwidth: {why}, so no distances to take it from; set a number")


def check_ipc(method: Method, ipc: int) -> None:
    """What no tree of that depth can give, before it is grown."""
    discovery = method.discovery or {}
    if "depth" not in discovery:
        return
    most = 2 ** discovery["depth"] if discovery["selection"] == "leaves" else 2 ** (discovery["depth"] + 1) - 1
    if ipc > most:
        where = f"methods.{method.name}.depth"
        raise LimbeckError(f"{where}: a tree of depth {discovery['depth']} has at most {most} nodes to choose, IPC is {ipc}")


def _check_solver(where: str, built: dict[str, list[dict[str, Any]]], prior: Prior, name: str) -> None:
    for sampler in built["sampler"]:
        for start in (each for each in built["start"] if each["kind"] == "gaussian"):
            if sampler["solver"] != "ddim":
                raise LimbeckError(f"{where}.solver: {sampler['solver']!r} cannot start from inverted latents; set solver: ddim")
            if start["inversion_step"] > sampler["steps"]:
                step, steps = start["inversion_step"], sampler["steps"]
                raise LimbeckError(f"{where}.inversion_step: {step} is beyond the grid of {steps} steps; lower it, or raise steps")
        if prior.family == "sdxl_refiner":
            raise LimbeckError(f"run.prior: {name!r} is a refiner, which works behind a base alone; choose a prior with 'refiner'")
        if sampler["solver"] not in SOLVERS[prior.family]:
            known = ", ".join(SOLVERS[prior.family])
            raise LimbeckError(
                f"{where}.solver: {sampler['solver']!r} does not fit prior {name} ({prior.family}); allowed: {known}"
            )
        if sampler["solver"] == "dpm++" and any(g.get("noise") == "keep" for g in built["guidance"]):
            raise LimbeckError(f"{where}.noise: 'keep' has no meaning for the multistep solver dpm++; use recompute or ddim")


def _fill(built: dict[str, list[dict[str, Any]]], ipc: int, prior: Prior) -> None:
    """Fill what was left open and depends on the IPC or the prior, and drop what is not read."""
    for sampler in built["sampler"]:
        sampler["solver"] = sampler["solver"] or SOLVERS.get(prior.family, ("",))[0]
        if sampler["cfg_scale"] is None:
            sampler["cfg_scale"] = CFG_SCALE.get(prior.family) if prior.cfg_scale is None else prior.cfg_scale
        sampler["cfg_channels"] = sampler["cfg_channels"] or prior.cfg_channels
    by_ipc = BY_IPC | BY_FAMILY.get(prior.family, {})
    for options in (*built["discovery"], *built["guidance"]):
        for key in [key for key in options if key in by_ipc and options[key] is None]:
            options[key] = by_ipc[key][ipc > LOW_IPC]
            if key == "prior_injection_steps":
                options[key] = round(options[key] * built["sampler"][0]["steps"] / 50)
        for key in UNREAD.get(options.get("reducer", ""), ()):
            options.pop(key)
        if options.get("features") == VAE and "reducer" in options:
            options.pop("features")
    for options in built["discovery"]:
        if DISCOVERY[options["kind"]].raw and "features" not in options and options["reducer"] == "none":
            options.pop("reducer")


def _fill_patches(
    where: str, built: Mapping[str, list[dict[str, Any]]], ipc: int, config: Config, prior: str, dataset: str
) -> None:
    """What patches and mosaics take from the size of the images, and nothing that is not read."""
    for options in (each for each in built["discovery"] if DISCOVERY[each["kind"]].judge):
        of_prior, spec = DISCOVERY[options["kind"]].judge == "prior", config.datasets[dataset]
        if of_prior:
            options["view"] = options["view"] or config.priors[prior].view
        name = options.get("view", spec.view)
        if name not in spec.views:
            raise LimbeckError(f"{where}.view: no view {name!r} in dataset {dataset}; known: {sorted(spec.views)}")
        fill = _fill_localization if of_prior else _fill_cropping
        cut, mosaic = fill(where, options, spec.views[name]), options.pop("mosaic")
        options["parts"] = 4 if mosaic == "2x2" or (mosaic == "auto" and cut and ipc <= MOSAIC_IPC) else 1


def _fill_localization(where: str, options: dict[str, Any], view: View) -> bool:
    """Whether images are cut."""
    whole = view.size if view.size <= WHOLE else view.size * 7 // 8
    options["patch_size"] = options["patch_size"] or whole
    if options["patch_size"] > view.size:
        raise LimbeckError(
            f"{where}.patch_size: {options['patch_size']} is more than the {view.size} pixels of {options['view']!r}"
        )
    unread = ["dift_t", "dift_block", "dift_ensemble"] if options["features"] != DIFT else []
    unread += ["dift_batch", "clusters", "n_init", "top_clusters"] if options["features"] == NO_FEATURES else []
    for key in unread:
        options.pop(key)
    return bool(options["patch_size"] < view.size or view.resize == "windows")


def _fill_cropping(where: str, options: dict[str, Any], view: View) -> bool:  # noqa: ARG001
    """Whether images are cut."""
    options["crop_area"] = options["crop_area"] or ([1.0, 1.0] if view.size <= WHOLE else [0.25, 0.25])
    cut: bool = options["crop_area"] != [1.0, 1.0]
    if not cut:  # the same crop every time
        options["crops"] = 1
    return cut


def _validated(model: type[Model], values: dict[str, Any], where: str) -> dict[str, Any]:
    try:
        return model.model_validate(values).model_dump(mode="json")
    except ValidationError as error:
        raise LimbeckError(first_line(error, where)) from None
