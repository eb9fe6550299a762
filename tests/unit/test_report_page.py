"""The stage ``report`` on a small made-up set of results: three protocols, soft labels, a failed training."""

import csv
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import yaml

from limbeck.artifacts import DISTILLED, FEATURES
from limbeck.plan import Plan
from limbeck.records import write_json
from limbeck.stages import report
from limbeck.store import create

ROOT = Path(__file__).parents[2]
CLASSES, IPC, SEEDS = ["left", "right"], 3, (0, 1, 2)
ROWS = {"full": 0.9, "subset": 0.6, "random": 0.61, "mgd": 0.72, "dit": 0.66}
KINDS = {"minimax-hard-256": ["hard", True], "rded-soft": ["soft", True], "tiny-plain": ["hard", False]}
METRICS = ("fd", "l2", "mmd", "rep_class", "div_class", "agreement")
EMPTY = ("prototypes", "targets", "tangents", "tangent_dims", "statistics", "subgroups", "sampling", "weights")


def artifact(path, schema, **arrays):
    header = {"classes": CLASSES, "class_range": [0, 2]}
    with create(path, schema, {name: values.shape for name, values in arrays.items()}, {}, {}, **header) as out:
        for name, values in arrays.items():
            out.append(name, values)
    return str(path)


def student(name, protocol, seed, fails):
    """Two repeats; ``fails``: the second comes to no end."""
    gain = {"rded-soft": 0.05, "tiny-plain": -0.1}.get(protocol, 0)
    found = []
    for repeat in range(2):
        value = ROWS[name] + gain + 0.001 * (zlib.crc32(f"{name} {seed} {repeat}".encode()) % 30)
        picked = {"epoch": 9, "accuracy": value + 0.01, "held_out": 0.7}
        best = {"epoch": 7, "accuracy": value + 0.02}
        own = {"repeat": repeat, "accuracy": value, "per_class": [value - 0.05, value + 0.05], "selected": picked, "best": best}
        found.append({**own, "curve": [{"epoch": 3, "held_out": None, "test": 0.5}], "failed": None})
    if fails:
        empty = dict.fromkeys(("accuracy", "per_class", "selected", "best"))
        found[1] |= {**empty, "curve": [], "failed": "the loss is nan at epoch 3 of 30 (learning rate 1e-02)"}
    labels = {"kind": "soft", "teacher": "convnet3", "bytes": 12000} if protocol == "rded-soft" else {"kind": "hard"}
    return {"repeats": found, "train_images": 6, "test_images": 500, "held_out_images": 50, "labels": labels}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The spec of a report over made-up cells, and its folder."""
    root = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], IPC)
    spec = {"distilled": {}, "features": {}, "cells": {}, "rows": {}} | {key: {} for key in EMPTY}
    for name in ROWS:
        seeds = (0,) if name == "full" else SEEDS
        spec["cells"][name] = {str(seed): str(root / name / f"seed{seed}") for seed in seeds}
        spec["rows"][name] = {"prior": "none", "options": {}, "paper": {"subset": "random"}.get(name, name)}
        for seed, folder in spec["cells"][name].items():
            metrics = {f"{metric}_teacher": 0.5 for metric in METRICS}
            write_json(f"{folder}/metrics/teacher.json", "metrics", {}, {"images": 6, **metrics})
            for protocol in KINDS:
                fails = (name, protocol, seed) == ("dit", "minimax-hard-256", "1")
                path = f"{folder}/students/{protocol}/resnetap10.json"
                write_json(path, "student", {}, student(name, protocol, int(seed), fails))
        if name != "full":
            images = rng.integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
            spec["distilled"][name] = [artifact(root / f"{name}.zarr.zip", DISTILLED, images=images, labels=labels)]
            features = rng.normal(size=(6, 5)).astype(np.float32)
            spec["features"][name] = [artifact(root / f"{name}-f.zarr.zip", FEATURES, features=features, labels=labels)]
    real = rng.normal(size=(40, 5)).astype(np.float32)
    spec |= {
        **{"dataset": "imagenette", "ipc": 10, "order": list(ROWS), "first_seed": 0, "extractors": ["teacher"]},
        **{"protocols": list(KINDS), "protocol_kinds": KINDS, "students": ["resnetap10"], "embedding": [], "scores": []},
        "real_features": [artifact(root / "real.zarr.zip", FEATURES, features=real, labels=np.repeat([0, 1], 20))],
    }
    report.run(spec, root)
    return root


def test_the_csv_has_a_line_per_row_and_protocol(made):
    rows = list(csv.DictReader((made / "summary.csv").read_text().splitlines()))
    assert [(row["method"], row["protocol"]) for row in rows] == [(name, protocol) for name in ROWS for protocol in KINDS]
    failed = next(row for row in rows if row["failed"] != "0")
    assert (failed["method"], failed["protocol"], failed["failed"], failed["accuracy"]) == ("dit", "minimax-hard-256", "1", "")
    assert failed["failure"].startswith("seed 1, repeat 1: the loss is nan")
    assert {row["label_bytes"] for row in rows if row["protocol"] == "rded-soft"} == {"12000"}


@pytest.mark.parametrize("name", ["summary.md", "summary.html"])
def test_both_texts_carry_every_part(made, name):
    text = (made / name).read_text()
    for part in (
        "failed (1 of 6)",
        "the loss is nan at epoch 3 of 30",
        "held-out real images",
        "as papers report",
        "resnetap10, rded-soft, best on test",
        "61.9 ± 0.6 (ManifoldGD, Table 1)",
        "higher of hard and soft",
        "(rded-soft)",
        "resnetap10, LRS",
        "resnetap10, ARS",
        "12.0",
        "p (Holm)",
        "mean rank",
        "500",
    ):
        assert part in text, part
    assert "nan " not in text.replace("the loss is nan at", "")
    assert "dit − random" not in text.split("resnetap10, rded-soft")[0]  # no pair of a failed cell under the first protocol


def test_the_page_shows_every_protocols_classes_and_the_storage(made):
    text = (made / "summary.html").read_text()
    for protocol in KINDS:
        assert f"<summary>resnetap10, {protocol}</summary>" in text.split("Accuracy by class")[1]
    assert "Storage, kB" in text
    assert "soft labels of the first protocol that has any" in text


def test_the_spec_names_protocols_and_what_papers_call_each_row():
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    base["run"]["protocols"] = ["tiny-hard", "smoke"]
    spec = json.loads(Plan(base).spec("report", {"dataset": "fashion-mini", "ipc": "10"}))
    assert spec["protocols"] == ["tiny-hard", "smoke"]
    assert spec["protocol_kinds"] == {"tiny-hard": ["hard", True], "smoke": ["hard", False]}
    found = {name: row["paper"] for name, row in spec["rows"].items()}
    assert (found["full"], found["subset"], found["mgd"], found["manifoldgd_expected"]) == ("full", "random", "mgd", "manifoldgd")
    assert (found["im"], found["s3"], found["ims3"]) == ("", "", "ims3")
