"""What must hold across keys of a config: names, datasets and priors that fit each other, methods that can run on them.

Every failure is one line that names the key, the value and what is allowed.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from limbeck.config import DIFT, RESERVED, TEACHER, VAE
from limbeck.data.paths import local_folder
from limbeck.derived import lineage
from limbeck.errors import LimbeckError
from limbeck.methods import FULL, Method
from limbeck.priors.files import INDEX, class_table, known_classes, match_classes
from limbeck.priors.prompts import prompts
from limbeck.priors.weights import cache_alone, factor, hub_folder, not_cached
from limbeck.resolution import check_ipc, check_reencoded
from limbeck.students.construct import misfit
from limbeck.students.registry import STUDENTS, architecture

if TYPE_CHECKING:
    from limbeck.plan import Plan


def check(plan: "Plan") -> None:
    """Everything, before any job starts."""
    for table in ("datasets", "priors", "methods", "teachers", "extractors", "protocols"):
        for name in getattr(plan.config, table):
            if name in RESERVED or name.startswith("ipc") or (table == "extractors" and name in (TEACHER, VAE, DIFT)):
                raise LimbeckError(f"{table}.{name}: the name is reserved; choose another")
    for dataset, spec in plan.config.datasets.items():
        for view in spec.views:
            if view in RESERVED or view.startswith("ipc"):
                raise LimbeckError(f"datasets.{dataset}.views.{view}: the name is reserved; choose another")
    clash = set(plan.config.datasets) & set(plan.config.priors)
    if clash:
        raise LimbeckError(f"priors.{min(clash)}: a dataset has the same name; choose another")
    run = plan.run
    plan.known("run.prior", run.prior, plan.config.priors)
    plan.known("run.teacher", run.teacher, plan.config.teachers)
    _evaluation(plan)
    for name, prior in plan.config.priors.items():
        if prior.train is not None:
            plan.known(f"priors.{name}.train.dataset", prior.train.dataset, plan.config.datasets)
        if prior.finetune is not None:
            plan.known(f"priors.{name}.finetune.dataset", prior.finetune.dataset, plan.config.datasets)
        if prior.refiner is not None:
            plan.known(f"priors.{name}.refiner", prior.refiner, plan.config.priors)
            if plan.config.priors[prior.refiner].family != "sdxl_refiner":
                raise LimbeckError(f"priors.{name}.refiner: {prior.refiner!r} is no refiner; set its family to sdxl_refiner")
    for ipc in run.ipc:
        plan.seeds(ipc)
        plan.methods(ipc)
    for dataset in run.datasets:
        plan.known("run.datasets", dataset, plan.config.datasets)
        if run.table is None:  # of a paper's table whatever is here is made
            _dataset(plan, dataset)
            for ipc in run.ipc:
                for name in (*plan.methods(ipc), *(r for r in run.references if r != FULL)):
                    _row(plan, dataset, ipc, name)


def missing(plan: "Plan", dataset: str, ipc: int, name: str, protocols: Sequence[str]) -> list[str]:
    """Why a cell cannot be made here, a line for each of what it lacks; none where it can."""
    method = None if name == FULL else plan.method(name, ipc, dataset)
    labellers = (each for protocol in protocols for each in plan.labellers(protocol))
    wanted: list[Callable[[], object]] = [partial(plan.source, dataset), *(partial(_given, plan, each) for each in labellers)]
    if method is not None:
        prior = plan.config.priors[method.prior]
        priors = filter(None, (plan.vae_of(method.prior), prior.refiner)) if method.needs_prior else ()
        extractors = dict.fromkeys((plan.dataset(dataset).extractor, method.features, (method.keep or {}).get("extractor")))
        wanted += [partial(_weights, plan, each) for each in priors]
        wanted += [partial(_extractor, plan, each) for each in extractors if each in plan.config.extractors]
    # what is in the data can be checked where all is here
    found = _failures(wanted) or _failures([partial(_dataset, plan, dataset)])
    return found or ([] if method is None else _failures([partial(_row, plan, dataset, ipc, name)]))


def _failures(parts: Sequence[Callable[[], object]]) -> list[str]:
    found = []
    for part in parts:
        try:
            part()
        except LimbeckError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))


def _evaluation(plan: "Plan") -> None:
    """Protocols, students and teachers by name."""
    run, teachers = plan.run, plan.config.teachers
    for name in plan.config.protocols:
        plan.protocol(name)
    if teachers[run.teacher].members:
        raise LimbeckError(
            f"run.teacher: {run.teacher!r} has members, but features are of one network; name it in a protocol instead"
        )
    for name, teacher in teachers.items():
        plan.known(f"teachers.{name}.student", teacher.student, STUDENTS)
        if plan.protocol(teacher.protocol, f"teachers.{name}.protocol").labels == "soft":
            raise LimbeckError(f"teachers.{name}.protocol: {teacher.protocol!r} has soft labels, a teacher learns from hard ones")
        if run.table is None:
            _given(plan, name)
        for member in teacher.members or ():
            plan.known(f"teachers.{name}.members", member, teachers)
            if teachers[member].members:
                raise LimbeckError(f"teachers.{name}.members: {member!r} has members itself; name those")
    for name in run.protocols:
        labeller = plan.protocol(name, "run.protocols").teacher
        if labeller is not None:
            plan.known(f"protocols.{name}.teacher", labeller, teachers)
    for student in run.students:
        plan.known("run.students", student, STUDENTS)
    for extractor in run.extractors:
        plan.known("run.extractors", extractor, dict.fromkeys(plan.config.extractor_names))
        if run.table is None:
            plan.extractor_files(extractor)


def _extractor(plan: "Plan", name: str) -> None:
    """An extractor's weights: files that are here, or a hub name that is or may be fetched."""
    plan.extractor_files(name)
    weights, cache = plan.config.extractors[name].weights, cache_alone(plan.config.offline)
    if local_folder(weights) is None and not Path(weights).is_file() and cache and hub_folder(weights) is None:
        raise LimbeckError(f"extractors.{name}.weights: {not_cached(weights, cache)}")


def _given(plan: "Plan", teacher: str) -> None:
    """Weights of a teacher that is not trained here."""
    weights = plan.config.teachers[teacher].weights
    if weights is not None and not Path(weights).is_file():
        raise LimbeckError(f"teachers.{teacher}.weights: no file {weights}")


def _tuning(plan: "Plan", name: str) -> None:
    """A dataset that a prior can be tuned on."""
    prior = plan.config.priors[name]
    if prior.finetune is None:
        return
    dataset, key = prior.finetune.dataset, f"priors.{name}.finetune"
    views = plan.dataset(dataset).views
    if prior.view not in views:
        raise LimbeckError(
            f"{key}.dataset: {dataset} has no view {prior.view!r}, which the prior takes; its views: {sorted(views)}"
        )
    _native(plan, name, f"{key}.dataset", dataset, prior.view)
    at_once, images = prior.finetune.batch_size * prior.finetune.accumulate, int(plan.counts(dataset).sum())
    if at_once > images:
        raise LimbeckError(f"{key}.batch_size: times accumulate {at_once}, more than the {images} images of {dataset}; lower it")


def _native(plan: "Plan", name: str, key: str, dataset: str, view: str) -> None:
    """A view of the size that a DiT takes, or that the VAE of any other prior divides."""
    takes = plan.native_size(plan.vae_of(name))
    if takes and plan.dataset(dataset).views[view].size != takes:
        folder = plan.weights_at(plan.vae_of(name))
        raise LimbeckError(f"{key}: {view!r} is not of the {takes} pixels that {folder} takes")
    _divided(plan, name, key, dataset, view)


def _divided(plan: "Plan", name: str, key: str, dataset: str, view: str) -> None:
    """A view whose side the VAE divides."""
    folder, size = plan.vae_at(plan.vae_of(name)), plan.dataset(dataset).views[view].size
    if folder is not None and size % (side := factor(folder)):
        raise LimbeckError(f"{key}: {view!r} of {size} pixels is no multiple of the {side} of the VAE in {folder}")


def _dataset(plan: "Plan", dataset: str) -> None:
    spec = plan.dataset(dataset)
    if spec.views[spec.view].resize == "windows":
        raise LimbeckError(f"datasets.{dataset}.views.{spec.view}: students cannot be trained on windows; name another view first")
    for name in plan.source(dataset).classes:
        if any("\ud800" <= character <= "\udfff" for character in name):  # how Python reads such a folder's name
            raise LimbeckError(f"datasets.{dataset}: class {name!r} is not UTF-8; rename its folder")
    _students(plan, dataset)
    plan.source(dataset).counts("test")
    plan.extractor_files(plan.dataset(dataset).extractor)


def _row(plan: "Plan", dataset: str, ipc: int, name: str) -> None:
    """A method, or a reference that is drawn, on what it needs."""
    counts = plan.counts(dataset)
    method = plan.method(name, ipc, dataset)
    check_ipc(method, ipc)
    if method.discovery is not None and counts.min() < ipc:
        short = plan.source(dataset).classes[int(counts.argmin())]
        most = f"{'at most ' if plan.dataset(dataset).source == 'pseudo' else ''}{counts.min()}"
        raise LimbeckError(f"run.ipc: {ipc} images per class asked of {name}, but class {short!r} of {dataset} has {most}")
    plan.extractor_files(method.features)
    keep = method.keep or {}
    plan.extractor_files(keep.get("extractor"))
    if (keep.get("real_images") or 0) > counts.min():
        short = f"the {counts.min()} of class {plan.source(dataset).classes[int(counts.argmin())]!r} of {dataset}"
        raise LimbeckError(f"methods.{name}.real_images: {keep['real_images']} is more than {short}")
    for seed in plan.seeds(ipc) if method.imported else ():
        plan.imported(name, ipc, dataset, seed)
    if method.needs_prior:
        _prior(plan, method.prior, dataset)
    if (method.inversion is not None or method.judge == "prior") and (parent := plan.parent(dataset)):
        _prior(plan, method.prior, parent)  # whose classes are inverted or scored, all of them
    if plan.reencodes:
        check_reencoded(method, plan.run.prior)
    _patches(plan, method, dataset, ipc)


def _students(plan: "Plan", dataset: str) -> None:
    """Networks that take the size of a protocol's images."""
    run, spec = plan.run, plan.dataset(dataset)
    labellers = {name for protocol in run.protocols for name in plan.labellers(protocol)}
    teachers = [(f"teachers.{name}", plan.config.teachers[name]) for name in sorted({run.teacher, *labellers})]
    cases = [("run.students", student, protocol) for student in run.students for protocol in run.protocols]
    for key, student, protocol in [*cases, *((f"{key}.student", t.student, t.protocol) for key, t in teachers)]:
        size = plan.protocol(protocol).size or spec.views[spec.view].size
        if complaint := misfit(architecture(student), size):
            fitting = sorted(name for name in STUDENTS if not misfit(architecture(name), size))
            raise LimbeckError(f"{key}: {student} under {protocol} on {dataset}: {complaint}; choose one of {fitting}")


def _patches(plan: "Plan", method: Method, dataset: str, ipc: int) -> None:
    """Enough images to take patches of, in a view that the prior can score."""
    options = method.discovery
    if options is None or method.judge is None:
        return
    wanted, key = options["parts"] * ipc, "real_images_per_class" if method.judge == "prior" else "crop_images"
    limit, least = options[key], int(plan.counts(dataset).min())
    if limit is not None and limit < wanted:
        raise LimbeckError(f"methods.{method.name}.{key}: {limit} images are fewer than the {wanted} patches that IPC {ipc} takes")
    if least < wanted:
        short = plan.source(dataset).classes[int(plan.counts(dataset).argmin())]
        raise LimbeckError(
            f"methods.{method.name}.mosaic: IPC {ipc} takes {wanted} patches, class {short!r} of {dataset} has {least} images; use "
            "mosaic: single, or a lower IPC"
        )
    view = method.patch_view
    if view is not None and plan.dataset(dataset).source == "pseudo" and plan.dataset(dataset).views[view].resize == "windows":
        raise LimbeckError(
            f"methods.{method.name}.view: {dataset} labels whole images, not the windows of {view!r}; name another view"
        )
    if method.judge == "prior":
        _native(plan, method.prior, f"methods.{method.name}.view", dataset, options["view"])


def _prior(plan: "Plan", name: str, dataset: str) -> None:
    prior = plan.config.priors[name]
    views = plan.config.datasets[dataset].views
    for key in ("view", "discovery_view"):
        view = getattr(prior, key)
        if view is not None and view not in views:
            raise LimbeckError(f"priors.{name}.{key}: {view!r} is not a view of dataset {dataset}; its views: {sorted(views)}")
        if view is not None and views[view].resize == "windows":
            raise LimbeckError(f"priors.{name}.{key}: {view!r} is cut into windows, which only 'view' of method patches takes")
    for each in filter(None, (plan.vae_of(name), prior.refiner)):
        _weights(plan, each)
    classes = plan.source(dataset).classes
    if prior.family != "dit":
        prompts(classes)
    elif (table := _class_table(plan, name)) is not None:
        match_classes(table, classes, name)
    _native(plan, name, f"priors.{name}.view", dataset, prior.view)
    _divided(plan, name, f"priors.{name}.discovery_view", dataset, prior.discovery)
    for tuned in lineage(plan.config, name):
        _tuning(plan, tuned)


def _class_table(plan: "Plan", name: str) -> dict[int, str] | None:
    """Label -> class of a DiT; None where a hub name must be fetched first.

    Raises
    ------
    LimbeckError: it is tuned on classes that it does not know, and not in full.
    """
    prior, folder = plan.config.priors[name], plan.weights_at(name)
    if prior.train is not None:
        return dict(enumerate(plan.source(prior.train.dataset).classes))
    if prior.base is None or prior.finetune is None:
        return class_table(folder) if folder is not None and (folder / INDEX).is_file() else None
    table, own = _class_table(plan, prior.base), plan.source(prior.finetune.dataset).classes
    if prior.finetune.mode == "full" and (table is None or len(known_classes(table, own)) < len(own)):
        return dict(enumerate(own)) if table is not None else None
    if table is not None:
        try:
            match_classes(table, own, prior.base)
        except LimbeckError as error:
            raise LimbeckError(f"priors.{name}.finetune: {error}, or tune it in full (mode: full)") from None
    return table


def _weights(plan: "Plan", name: str) -> None:
    if said := plan.weights_complaint(name):
        raise LimbeckError(f"priors.{name}.weights: {said}")
    if said := plan.vae_complaint(name):
        raise LimbeckError(f"priors.{name}.vae: {said}")
