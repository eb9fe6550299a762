"""Through Snakemake: discoveries in CLIP's features and in an embedding, on a dataset of which few labels are known."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import EMBEDDING, FEATURES, IMAGES, LATENTS, PROTOTYPES
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow, save_clip, write_small

PCA = {"reducer": "pca", "components": 5}
CELL = ("pick", "pngs", "embed", "measure", "train")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    """CoDA's R in CLIP's features to the page, k-means in PCA of the latents, both on pseudo-labels by the parent's teacher."""
    folder = tmp_path_factory.mktemp("features")
    save_clip(folder / "clip", 3)
    write_small(folder / "small.npz")
    small = {"source": "npz", "path": str(folder / "small.npz"), "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
    few = {"source": "pseudo", "of": "small", "labelled": 0.1, "extractor": "teacher", "threshold": 0.9}
    made = make_workflow(
        folder,
        tiny_prior,
        run={"datasets": ["few"], "methods": ["coda_real"], "references": []},
        datasets={"small": small, "few": few},
        extractors={"clip": {"kind": "clip", "weights": str(folder / "clip")}},
    )
    made.overlay["methods"]["coda_real"] = {"base": "coda_real", "features": "clip", "min_cluster_size": 5, **PCA}
    made.overlay["methods"]["kmeans"] = {"base": "kmeans", **PCA}
    made.build(*targets(made))
    return made


def targets(flow: Workflow) -> list[str]:
    return [str(flow.results / "few" / name) for name in ("ipc2/summary.html", f"tiny/kmeans/ipc2/seed0/distilled-0{SUFFIX}")]


def after(*methods: str) -> list[tuple[str, str]]:
    return [("report", ""), *((rule, method) for method in methods for rule in CELL)]


@pytest.mark.long
def test_the_pool_is_labelled_images_and_pseudo_labels(built):
    images = built.results / f"few/v32/images/train-0{SUFFIX}"
    with Artifact(images, IMAGES) as pool, Artifact(built.results / f"small/v32/images/train-0{SUFFIX}", IMAGES) as parent:
        labels, pseudo, true = (pool[name] for name in ("labels", "pseudo", "true_labels"))
        known = {bytes(i): int(c) for i, c in zip(parent["source_ids"], parent["labels"], strict=True)}
        assert pool.attrs["classes"] == parent.attrs["classes"]
        ids = [bytes(i).ljust(parent.shape("source_ids")[1], b"\0") for i in pool["source_ids"]]
    assert np.bincount(labels[pseudo == 0]).tolist() == [6] * 10
    assert (np.diff(labels) >= 0).all()
    assert [known[i] for i in ids] == true.tolist()
    accepted = pseudo == 1
    precision = (labels == true)[accepted].mean()
    assert 50 < accepted.sum() < 540
    assert precision > 0.5  # chance is 0.1
    log = (built.results / "logs/label/few.v32.0.log").read_text()
    assert f"{accepted.sum()} by pseudo-label, precision {precision:.4f}" in log
    assert not (built.results / "few/v32/images").joinpath(f"test-0{SUFFIX}").exists()  # its test split is the parent's


@pytest.mark.long
def test_discovery_works_in_the_features_and_the_targets_are_latents(built):
    space = built.results / "few/v32/tiny"
    with Artifact(built.results / f"few/features/clip/train-0{SUFFIX}", FEATURES) as features:
        assert features.shape("features")[1] == 24
        labels = features["labels"]
        raw = features["features"][labels == 3].astype(np.float64)
    found = {}
    for path in space.glob(f"embeddings/pca-*/0{SUFFIX}"):
        with Artifact(path, EMBEDDING) as made:
            found[str(made.attrs["params"]["embedding"].get("features"))] = made["coordinates"]
    standard = (raw - raw.mean(0)) / raw.std(0)
    values = np.linalg.svd(standard, compute_uv=False)[:5]
    assert np.allclose(np.linalg.norm(found["clip"][labels == 3], axis=0), values, rtol=1e-4)
    with Artifact(space / f"latents/0{SUFFIX}", LATENTS) as latents:
        z = latents["latents"].astype(np.float32)
    for kind in ("kmeans", "density"):
        with Artifact(next(space.glob(f"prototypes/{kind}-*/ipc2/seed0/0{SUFFIX}")), PROTOTYPES) as p:
            assert np.array_equal(z[p["indices"]], p["members"])
            assert (labels[p["indices"]] == p["labels"]).all()


@pytest.mark.long
def test_the_page_is_tested_on_the_parents_images(built):
    rows = list(csv.DictReader((built.results / "few/ipc2/summary.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["coda_real"]
    record = json.loads((built.results / "few/teachers/smoke/teacher.json").read_text())["results"]
    assert record["test_images"] == 200
    assert built.planned(*targets(built)) == []


@pytest.mark.long
def test_changed_weights_of_an_extractor_rerun_what_reads_its_features(flow):
    path = flow.folder / "clip/model.safetensors"
    good = path.read_bytes()
    save_clip(flow.folder / "clip", 4)
    try:
        assert flow.planned(*targets(flow)) == sorted(
            [("features", ""), ("reduce", ""), ("fit", ""), ("select", ""), *after("coda_real")]
        )
    finally:
        path.write_bytes(good)
    assert flow.planned(*targets(flow)) == []  # equal content, though the file is newer


@pytest.mark.long
def test_back_to_latents_computes_no_features_and_shares_kmeans_embedding(flow):
    flow.overlay["methods"]["coda_real"]["features"] = "vae"
    assert flow.planned() == sorted([("fit", ""), ("select", ""), *after("coda_real")])


@pytest.mark.long
def test_another_threshold_labels_again_from_the_same_features(flow):
    flow.overlay["datasets"]["few"]["threshold"] = 0.95
    planned = flow.planned()
    assert ("label", "") in planned
    assert {"ingest", "prior"}.isdisjoint(rule for rule, _ in planned)
    done = flow.snakemake("-n", str(flow.results / f"few/v32/images/train-0{SUFFIX}"))
    assert done.stdout.count("rule label:") == 1
    assert "rule features:" not in done.stdout


@pytest.mark.long
def test_a_class_that_came_out_too_small_is_named(flow):
    flow.overlay["datasets"]["tiny-few"] = {**flow.overlay["datasets"]["few"], "labelled": 0.02, "threshold": 0.99999}
    flow.overlay["run"] |= {"datasets": ["tiny-few"], "ipc": [3], "methods": ["random"]}
    done = flow.snakemake("--show-failed-logs", str(flow.results / f"tiny-few/none/random/ipc3/seed0/distilled-0{SUFFIX}"))
    assert done.returncode != 0
    text = done.stdout + done.stderr
    assert "limbeck: error: class 'T-shirt/top' has " in text
    assert "fewer than IPC 3" in text
