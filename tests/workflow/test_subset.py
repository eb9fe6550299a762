"""Through Snakemake: a new class combination of a dataset runs no network again, it takes what the dataset has."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import DISTILLED, EMBEDDING, IMAGES, LATENTS, SCORES, STATISTICS, Schema
from limbeck.methods import embedding_name, embedding_options
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow, write_small

NAMES = ["Bag", "Coat", "Ankle boot"]
CLASSES = [8, 4, 9]
KINDS = ("images", "images", "latents", "patch_features", "scores", "statistics")
TAKEN = [(f"take_{kind}", "") for kind in KINDS]
PATCHES = {"base": "patches", "n_draws": 1, "dift_ensemble": 1, "clusters": 2, "top_clusters": 1}
CELL = ("pngs", "embed", "measure", "train")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    """A dataset in three shards, of which two are inverted: the first has none of the classes asked for below."""
    folder = tmp_path_factory.mktemp("subset")
    write_small(folder / "small.npz")
    small = {"source": "npz", "path": str(folder / "small.npz"), "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
    made = make_workflow(
        folder,
        tiny_prior,
        run={"datasets": ["small"], "methods": ["d3hr", "patches"], "references": []},
        datasets={"small": {**small, "shards": 3}},
        methods={"patches": PATCHES},
    )
    plan = made.plan()
    statistics = [str(plan.inverted("small", plan.method("d3hr", 2, "small"), shard)) for shard in (1, 2)]
    patches = plan.method("patches", 2, "small")
    features = embedding_name(embedding_options(patches.discovery))
    embeddings = [f"{made.results}/small/v32/tiny/embeddings/{features}/{shard}{SUFFIX}" for shard in (1, 2)]
    made.build(*statistics, *embeddings, *plan.images("small", "test")[1:])
    return made


def subset(flow: Workflow, name: str, classes: list[str]) -> None:
    flow.overlay["datasets"][name] = {"source": "subset", "of": "small", "classes": classes}
    flow.overlay["run"] |= {"datasets": [name], "methods": ["random", "d3hr", "patches"]}


def joined(flow: Workflow, dataset: str, pattern: str, schema: Schema) -> dict[str, np.ndarray]:
    """An artifact's arrays over all shards."""
    paths = sorted((flow.results / dataset).glob(f"{pattern}{SUFFIX}"))
    parts = []
    for path in paths:
        with Artifact(path, schema) as found:
            parts.append({name: found[name] for name in schema.arrays if name in found and name != "source_ids"})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def taken_from(flow: Workflow) -> list[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """(the subset's, the parent's) images of both splits, latents and statistics."""
    kinds = [("v32/images/train-*", IMAGES), ("v32/images/test-*", IMAGES), ("v32/tiny/latents/*", LATENTS)]
    kinds += [
        ("tiny/inverted/inversion-*/*", STATISTICS),
        ("tiny/scores/*/*", SCORES),
        ("v32/tiny/embeddings/patches-*/*", EMBEDDING),
    ]
    return [(joined(flow, "few", pattern, schema), joined(flow, "small", pattern, schema)) for pattern, schema in kinds]


@pytest.mark.long
def test_a_subset_takes_everything_and_is_distilled(flow):
    subset(flow, "few", NAMES)
    own = [("select", ""), ("pick", "random"), ("draw", ""), ("sample", "d3hr"), ("teacher", ""), ("reduce", "")]
    own += [("localize", ""), ("fit", ""), ("select", ""), ("pick", "patches")]
    real = [("features", ""), ("features", ""), ("hold_out", ""), ("report", "")]
    assert flow.planned() == sorted(
        [*TAKEN, *own, *real, *((rule, method) for method in ("random", "d3hr", "patches") for rule in CELL)]
    )
    cells = ("none/random", "tiny/d3hr", "tiny/patches")
    distilled = [f"{cell}/ipc2/seed0/distilled-0{SUFFIX}" for cell in cells]
    targets = [
        str(flow.results / "few" / name) for name in (*distilled, f"v32/images/test-0{SUFFIX}", f"v32/tiny/latents/0{SUFFIX}")
    ]
    flow.build(*targets)
    for few, small in taken_from(flow):
        rows = [np.flatnonzero(small["labels"] == c) for c in CLASSES]
        assert few["labels"].tolist() == np.repeat(range(3), [len(each) for each in rows]).tolist()
        for name in set(few) - {"labels"}:
            assert np.array_equal(few[name], small[name][np.concatenate(rows)]), name
    params = []
    for dataset in ("few", "small"):  # what `limbeck generate` reads of them
        with Artifact(next((flow.results / dataset / "tiny").glob(f"inverted/*/*{SUFFIX}")), STATISTICS) as found:
            params.append({key: found.attrs["params"][key] for key in ("inversion", "family", "prior")})
    assert params[0] == params[1]
    for name in distilled:
        with Artifact(flow.results / "few" / name, DISTILLED) as made:
            assert (made.attrs["classes"], made["labels"].tolist()) == (NAMES, [0, 0, 1, 1, 2, 2])
    assert flow.planned(*targets) == []
    assert len(list((flow.results / "small/v32/images").glob(f"*{SUFFIX}"))) == 4  # the shard it does not need was never made


@pytest.mark.long
@pytest.mark.parametrize("classes", [NAMES[::-1], ["Coat", "Dress"]], ids=["order", "classes"])
def test_another_combination_runs_no_network_of_the_prior_but_sampling(flow, classes):
    subset(flow, "other", classes)
    planned = flow.planned()
    assert [job for job in planned if job[0].startswith("take")] == TAKEN
    after = {
        "localize",
        "fit",
        "select",
        "pick",
        "draw",
        "sample",
        "pngs",
        "teacher",
        "features",
        "hold_out",
        "embed",
        "reduce",
        "measure",
        "train",
        "report",
    }
    assert {rule for rule, _ in planned} - {rule for rule, _ in TAKEN} == after


@pytest.mark.long
def test_a_changed_inversion_is_the_parents_work(flow):
    subset(flow, "other", ["Coat", "Sneaker"])
    flow.overlay["methods"]["d3hr"]["inversion_step"] = 1
    rules = [rule for rule, _ in flow.planned()]
    assert (rules.count("invert"), rules.count("take_statistics")) == (2, 1)  # of the two shards
    assert {"encode", "ingest"}.isdisjoint(rules)
