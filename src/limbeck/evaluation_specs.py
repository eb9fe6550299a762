"""The params strings of evaluation: teachers, features, metrics, soft labels, trainings, the report. See ``limbeck.specs``."""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbeck import components, papers
from limbeck.config import TEACHER
from limbeck.methods import FULL, Method
from limbeck.report.published import FILES as PUBLISHED
from limbeck.report.published import name_of
from limbeck.students.registry import STUDENTS, architecture

if TYPE_CHECKING:
    from limbeck.plan import Plan

# what pages are made of
PAGE = sorted(path for path in (Path(__file__).parent / "report").iterdir() if path.suffix in (".jinja", ".css", ".js"))
Wildcards = Mapping[str, Any]
Spec = tuple[dict[str, Any], list[str]]


def _teacher(plan: "Plan", w: Wildcards) -> Spec:
    plan.known("teachers", w["teacher"], plan.config.teachers)
    teacher = plan.config.teachers[w["teacher"]]
    settings = plan.settings(teacher.protocol, teacher.student, w["dataset"], plan.per_class(w["dataset"]))
    slice_ = {"teacher": w["teacher"], "architecture": architecture(teacher.student), "settings": settings.model_dump(mode="json")}
    origin = {"given": True} if teacher.weights else {"protocol": teacher.protocol, "seed": teacher.seed}
    return {**slice_, **origin}, [STUDENTS[teacher.student].module]


def _labellers(plan: "Plan", protocol: str) -> Spec:
    """Who labels for a protocol, and the modules that they are of."""
    found, names = plan.protocol(protocol), plan.labellers(protocol)
    slice_ = {"teacher": found.teacher or plan.run.teacher, "teachers": list(names)} if names else {"teachers": []}
    return slice_, [STUDENTS[plan.config.teachers[name].student].module for name in names]


def _tiles(plan: "Plan", w: Wildcards) -> int:
    """How many patches lie along a side of the images of a cell: 2 of its mosaics."""
    if w["method"] == FULL:
        return 1
    options = plan.method(w["method"], int(w["ipc"]), w["dataset"]).discovery or {}
    return math.isqrt(options.get("parts", 1))


def _soft_labels(plan: "Plan", w: Wildcards) -> Spec:
    # any student will do: what they see does not depend on the architecture
    settings = plan.settings(w["protocol"], plan.run.students[0], w["dataset"], int(w["ipc"]), _tiles(plan, w))
    unread = {"lr", "weight_decay", "optimiser", "momentum", "decay", "schedule", "schedule_by", "evaluations"}
    labellers, modules = _labellers(plan, w["protocol"])
    slice_ = {
        "protocol": w["protocol"],
        "settings": {**settings.model_dump(mode="json", exclude=unread), "lr": 1.0, "weight_decay": 0.0},
    }
    return {**slice_, **labellers, "seed": int(w["seed"]), "repeat": int(w["repeat"])}, modules


def _hold_out(plan: "Plan", w: Wildcards) -> Spec:  # noqa: ARG001
    return {"held_out": plan.run.held_out}, []


def features(plan: "Plan", w: Wildcards) -> Spec:
    name = w["extractor"]
    if name == TEACHER:
        slice_ = {"kind": "teacher", "teacher": plan.run.teacher}
        modules = [STUDENTS[plan.config.teachers[plan.run.teacher].student].module]
    else:
        slice_, modules = plan.config.extractors[name].read(), []
    return {"extractor": name, **slice_}, [components.EXTRACTORS[slice_["kind"]], *modules]


def _embed(plan: "Plan", w: Wildcards) -> Spec:
    return features(plan, w)


def _measure(plan: "Plan", w: Wildcards) -> Spec:
    name = w["extractor"]
    return {"extractor": name, "kind": TEACHER if name == TEACHER else plan.config.extractors[name].kind}, []


def _train(plan: "Plan", w: Wildcards) -> Spec:
    plan.known("run.students", w["student"], STUDENTS)
    per_class = plan.per_class(w["dataset"]) if w["ipc"] == "all" else int(w["ipc"])
    settings = plan.settings(w["protocol"], w["student"], w["dataset"], per_class, _tiles(plan, w))
    labellers, modules = _labellers(plan, w["protocol"])
    slice_ = {"protocol": w["protocol"], "settings": settings.model_dump(mode="json"), **labellers}
    slice_ |= {"architecture": architecture(w["student"]), "seed": int(w["seed"]), "repeats": plan.run.repeats}
    return slice_, [STUDENTS[w["student"]].module, *modules]


def _report(plan: "Plan", w: Wildcards) -> Spec:
    ipc = int(w["ipc"])
    rows = {}
    for name in plan.rows(ipc):
        method = None if name == FULL else plan.method(name, ipc, w["dataset"])
        parts = ("discovery", "start", "guidance", "sampler", "keep", "imported")
        options = {} if method is None else {part: getattr(method, part) for part in parts}
        rows[name] = {"prior": plan.prior_of(name, ipc, w["dataset"]), "options": options, "paper": _in_papers(plan, name, method)}
    return {
        "dataset": w["dataset"],
        "ipc": ipc,
        "order": list(plan.rows(ipc)),
        "rows": rows,
        "cells": _cells(plan, w["dataset"], ipc),
        "overview": plan.several_ipcs,
        "first_seed": plan.first_seed(ipc),
        "protocols": list(plan.run.protocols),
        "protocol_kinds": {p: (plan.protocol(p).labels, plan.protocol(p).augmented) for p in plan.run.protocols},
        "students": list(plan.run.students),
        "extractors": list(plan.run.extractors),
        **_below(plan, plan.diagnostics(w["dataset"], ipc)),
        "page": _hash(*PAGE),
        "published": _hash(*PUBLISHED),
    }, []


def _overview(plan: "Plan", w: Wildcards) -> Spec:
    found = {ipc: plan.rows(ipc) for ipc in sorted(plan.run.ipc)}
    papers = {
        str(ipc): {row: _in_papers(plan, row, None if row == FULL else plan.method(row, ipc, w["dataset"])) for row in rows}
        for ipc, rows in found.items()
    }
    return {
        "dataset": w["dataset"],
        "order": list(dict.fromkeys(row for rows in found.values() for row in rows)),
        "cells": {str(ipc): _cells(plan, w["dataset"], ipc) for ipc in found},
        "papers": papers,
        "protocols": list(plan.run.protocols),
        "students": list(plan.run.students),
        "page": _hash(*PAGE),
        "published": _hash(*PUBLISHED),
    }, []


def _paper(plan: "Plan", w: Wildcards) -> Spec:
    return {**papers.spec(plan, w["paper"], w["table"]), "page": _hash(*PAGE)}, []


def _cells(plan: "Plan", dataset: str, ipc: int) -> dict[str, dict[str, str]]:
    """Row -> seed -> folder, below the results' folder."""
    return {row: {str(s): _below(plan, path) for s, path in seeds.items()} for row, seeds in plan.cells(dataset, ipc).items()}


def _below(plan: "Plan", found: Any) -> Any:
    """Nested lists and mappings with their paths below the results' folder: a job may see that elsewhere."""
    if isinstance(found, Mapping):
        return {key: _below(plan, value) for key, value in found.items()}
    if isinstance(found, list):
        return [_below(plan, value) for value in found]
    return found.removeprefix(f"{plan.root}/") if isinstance(found, str) else found


def _hash(*paths: Path) -> str:
    """Of files that are no Python sources, so that the fingerprint does not see them."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _in_papers(plan: "Plan", name: str, method: Method | None) -> str:
    """What papers call a row's method; "" where none has it."""
    if method is None:
        return FULL
    tuned = plan.config.priors[method.prior].finetune if method.sampler else None
    return name_of(plan.config.methods.get(name, {"base": name})["base"], tuned.criterion if tuned else "diffusion")


EVALUATION: dict[str, Callable[["Plan", Wildcards], Spec]] = {
    "teacher": _teacher,
    "hold_out": _hold_out,
    "features": features,
    "embed": _embed,
    "measure": _measure,
    "soft_labels": _soft_labels,
    "train": _train,
    "report": _report,
    "overview": _overview,
    "paper": _paper,
}
