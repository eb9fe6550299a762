"""A small made-up set of results and its pages: three protocols, soft labels, a failed training, names that HTML must escape."""

import json
import zlib
from pathlib import Path

import numpy as np

from limbeck.artifacts import DISTILLED, EMBEDDING, FEATURES, PROTOTYPES
from limbeck.records import write_json, write_sidecar
from limbeck.stages import overview, report
from limbeck.store import create

CLASSES, IPC, SEEDS = ["left", 'r<i>ght & "co"'], 3, (0, 1, 2)
ROWS = {"full": 0.9, "subset": 0.6, "random": 0.61, "mgd": 0.72, "dit": 0.66}
KINDS = {"minimax-hard-256": ["hard", True], "rded-soft": ["soft", True], "tiny-plain": ["hard", False]}
STUDENT = "resnetap10"
METRICS = ("fd", "l2", "mmd", "rep_class", "div_class", "agreement")
EMPTY = ("prototypes", "targets", "shared", "tangents", "tangent_dims", "statistics", "subgroups", "sampling", "weights")
LATENT = (2, 2, 2)
ABOUT = {"package": "0.1.0", "torch": "2.13.0", "python": "3.11", "machine": "m<1>", "finished": "2026-01-02T03:04:05Z"}


def artifact(path, schema, **arrays):
    header = {"classes": CLASSES, "class_range": [0, 2]}
    with create(path, schema, {name: values.shape for name, values in arrays.items()}, {}, {}, **header) as out:
        for name, values in arrays.items():
            out.append(name, values)
    return str(path)


def sidecar(stem, **more):
    about = {**ABOUT, "seconds": 1.5, "cpu_seconds": 1.2, "peak_mb": 321, "source": "abcdef123456", **more}
    write_sidecar(Path(f"{stem}.prov.json"), about, {})


def student(name, protocol, seed, fails):
    """Two repeats; ``fails``: the second comes to no end."""
    gain = {"rded-soft": 0.05, "tiny-plain": -0.1}.get(protocol, 0)
    found = []
    for repeat in range(2):
        value = ROWS[name] + gain + 0.001 * (zlib.crc32(f"{name} {seed} {repeat}".encode()) % 30)
        picked = {"epoch": 9, "accuracy": value + 0.01, "held_out": 0.7}
        best = {"epoch": 7, "accuracy": value + 0.02}
        own = {"repeat": repeat, "accuracy": value, "per_class": [value - 0.05, value + 0.05], "selected": picked, "best": best}
        own |= {"confusion": [[200, 50], [100, 150]]}
        found.append({**own, "curve": [{"epoch": 3, "held_out": None, "test": 0.5}], "failed": None})
    if fails:
        empty = dict.fromkeys(("accuracy", "per_class", "confusion", "selected", "best"))
        found[1] |= {**empty, "curve": [], "failed": "the loss is nan at epoch 3 of 30 (learning rate 1e-02)"}
    labels = {"kind": "soft", "teacher": "convnet3", "bytes": 12000} if protocol == "rded-soft" else {"kind": "hard"}
    return {"repeats": found, "train_images": 6, "test_images": 500, "held_out_images": 50, "labels": labels}


def make_spec(results):
    """Write cells below ``results`` and return the spec of their report, for ``<results>/imagenette/ipc10``."""
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], IPC)
    spec = {"distilled": {}, "features": {}, "cells": {}, "rows": {}, "placed": ["subset", "random", "mgd", "dit"]}
    spec |= {key: {} for key in EMPTY}
    latents = rng.normal(size=(40, *LATENT)).astype(np.float32)
    real_labels = np.repeat([0, 1], 20)
    for name in ROWS:
        seeds = (0,) if name == "full" else SEEDS
        spec["cells"][name] = {str(seed): f"imagenette/{name}/seed{seed}" for seed in seeds}
        options = {} if name == "full" else {"discovery": {"kind": name}, "guidance": (), "sampler": None}
        spec["rows"][name] = {"prior": "none", "options": options, "paper": {"subset": "random"}.get(name, name)}
        for seed, at in spec["cells"][name].items():
            folder = results / at
            metrics = {f"{metric}_teacher": 0.5 for metric in METRICS}
            write_json(folder / "metrics/teacher.json", "metrics", {}, {"images": 6, **metrics})
            for protocol in KINDS:
                fails = (name, protocol, seed) == ("dit", "minimax-hard-256", "1")
                path = folder / f"students/{protocol}/{STUDENT}"
                write_json(f"{path}.json", "student", {}, student(name, protocol, int(seed), fails))
                sidecar(path)
            if name != "full":
                sidecar(folder / "distilled-0", seconds_per_image=0.2 + 0.1 * len(name))
        if name != "full":
            cell = f"imagenette/{name}/seed0"
            images = {"images": rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8), "labels": labels}
            if name in ("mgd", "dit"):
                images |= {"latents": latents[[0, 1, 2, 20, 21, 22]], "x0_norms": rng.random((6, 5), np.float32) + 1}
                spec["sampling"][name] = [[f"{cell}/distilled-0.prov.json"]]
                spec["weights"][name] = "imagenette/prior.prov.json"
            else:
                images["indices"] = np.array([3, 4, 5, 23, 24, 25])
            for seed in SEEDS:
                artifact(results / f"imagenette/{name}/seed{seed}/distilled-0.zarr.zip", DISTILLED, **images)
            spec["distilled"][name] = [f"{cell}/distilled-0.zarr.zip"]
            features = rng.normal(size=(6, 5)).astype(np.float32)
            artifact(results / cell / "f.zarr.zip", FEATURES, features=features, labels=labels)
            spec["features"][name] = [f"{cell}/f.zarr.zip"]
    sidecar(results / "imagenette/prior", weights_bytes=1000)
    chosen = {"indices": np.array([6, 7, 8, 26, 27, 28]), "labels": labels, "counts": np.ones(6, int)}
    artifact(results / "imagenette/p.zarr.zip", PROTOTYPES, **chosen)
    spec |= {"prototypes": {"random": ["imagenette/p.zarr.zip"]}, "targets": {"random": "member"}}
    spec["shared"] = {"random": "random", "mgd": "random"}
    flat = latents.reshape(40, -1)
    axes = np.stack([np.eye(8)[:2]] * 2).astype(np.float32)
    plane = {"coordinates": flat[:, :2], "labels": real_labels, "axes": axes, "centres": np.zeros((2, 8), np.float32)}
    artifact(results / "imagenette/e.zarr.zip", EMBEDDING, **plane)
    features = rng.normal(size=(40, 5)).astype(np.float32)
    artifact(results / "imagenette/real.zarr.zip", FEATURES, features=features, labels=real_labels)
    return spec | {
        **{"dataset": "imagenette", "ipc": 10, "order": list(ROWS), "first_seed": 0, "extractors": ["teacher"], "overview": True},
        **{"protocols": list(KINDS), "protocol_kinds": KINDS, "students": [STUDENT], "scores": []},
        **{"embedding": ["imagenette/e.zarr.zip"], "real_features": ["imagenette/real.zarr.zip"]},
    }


def make_pages(results):
    """The page of an IPC, its folder, and the page over two IPCs of which one has no ``dit``."""
    spec = make_spec(results)
    folder = results / "imagenette/ipc10"
    report.run(json.loads(json.dumps(spec)), folder)
    few = {row: cells for row, cells in spec["cells"].items() if row != "dit"}
    papers = {ipc: {row: said["paper"] for row, said in spec["rows"].items()} for ipc in ("10", "50")}
    over = {key: spec[key] for key in ("dataset", "order", "protocols", "students")}
    over |= {"cells": {"10": spec["cells"], "50": few}, "papers": papers}
    overview.run(json.loads(json.dumps(over)), results / "imagenette/summary.html")
    return folder
