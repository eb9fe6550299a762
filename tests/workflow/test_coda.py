"""CoDA through Snakemake: R and G, what is cached apart from what, the page's chart."""

import csv
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import DISTILLED, PROTOTYPES
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

SMALL = {"reducer": "umap", "components": 5, "n_neighbors": 15, "min_cluster_size": 20}
BOTH = ("coda", "coda_real")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    made = make_workflow(
        tmp_path_factory.mktemp("coda"), tiny_prior, run={"methods": ["coda_real", "coda"], "ipc": [4], "references": []}
    )
    made.overlay["methods"]["coda"] |= SMALL
    made.overlay["methods"]["coda_real"] = {"base": "coda_real", **SMALL}
    made.build()
    return made


def after(*methods: str) -> list[tuple[str, str]]:
    rules = {
        "coda": ("sample", "pngs", "embed", "measure", "train"),
        "coda_real": ("pick", "pngs", "embed", "measure", "train"),
    }
    return [(rule, method) for method in methods for rule in rules[method]]


@pytest.mark.long
def test_both_sets_share_embedding_clusters_and_representatives(built):
    space = built.results / "fashion-mini/v32/tiny"
    assert len(list(space.glob("embeddings/umap-*/0.zarr.zip"))) == 1
    assert len(list(space.glob("fits/density-*/0.zarr.zip"))) == 1
    with Artifact(next(space.glob("prototypes/density-*/ipc4/seed0/0.zarr.zip")), PROTOTYPES) as found:
        indices, origins, members = found["indices"], found["origins"], found["members"]
    assert len(set(indices.tolist())) == 40
    assert set(origins.tolist()) <= {0, 1, 2, 3}
    with Artifact(built.results / f"fashion-mini/tiny/coda_real/ipc4/seed0/distilled-0{SUFFIX}", DISTILLED) as real:
        assert np.array_equal(real["indices"], indices)
    with Artifact(space / f"latents/0{SUFFIX}") as latents:
        assert np.array_equal(latents["latents"][indices].astype(np.float32), members)


@pytest.mark.long
def test_the_page_shows_both_rows_and_their_origins(built):
    page = built.results / "fashion-mini/ipc4"
    rows = list(csv.DictReader((page / "summary.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["coda_real", "coda"]
    html = (page / "summary.html").read_text()
    assert "Where the representatives come from" in html
    assert "Mode guidance and the tangent space" not in html


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"gamma": 0.5}, [*after("coda")]),
        ({"variant": "released"}, [*after(*BOTH), ("select", "")]),
        ({"min_cluster_size": 30}, [*after(*BOTH), ("fit", ""), ("select", "")]),
        ({"n_neighbors": 20}, [*after(*BOTH), ("reduce", ""), ("fit", ""), ("select", "")]),
    ],
)
def test_an_option_reaches_back_to_its_stage_and_no_further(flow, change, expected):
    for method in BOTH if "gamma" not in change else ("coda",):
        flow.overlay["methods"][method] |= change
    assert flow.planned() == sorted([*expected, ("report", "")])


@pytest.mark.long
def test_an_ipc_more_fits_nothing_again(flow):
    flow.overlay["run"]["ipc"] = [4, 7]
    assert {"reduce", "fit", "encode"}.isdisjoint(rule for rule, _ in flow.planned())


@pytest.mark.long
@pytest.mark.parametrize(("cores", "threads"), [(2, 1), (3, 2)])
def test_umap_takes_two_cores_of_more_than_two(flow, cores, threads):
    """Of two it would wait until both were free at once."""
    flow.overlay["methods"]["coda_real"]["n_neighbors"] = 20
    assert flow.threads("reduce", cores) == [threads]


@pytest.mark.long
def test_alignment_moves_images_towards_their_representatives(flow):
    flow.overlay["methods"] |= {
        "strong": {**flow.overlay["methods"]["coda"], "gamma": 1.0, "prior_injection_steps": 0, "cfg_scale": 1.0},
        "off": {**flow.overlay["methods"]["coda"], "gamma": 0.0, "cfg_scale": 1.0},
    }
    paths = {name: flow.results / f"fashion-mini/tiny/{name}/ipc4/seed0/distilled-0{SUFFIX}" for name in ("strong", "off")}
    flow.build(*map(str, paths.values()))
    with Artifact(
        next((flow.results / "fashion-mini/v32/tiny/prototypes").glob("density-*/ipc4/seed0/0.zarr.zip")), PROTOTYPES
    ) as p:
        members = p["members"]
    distance = {}
    for name, path in paths.items():
        with Artifact(path, DISTILLED) as found:
            distance[name] = np.abs(found["latents"] - members).max()
    assert distance["strong"] < 1e-3  # gamma 1 to the last step lands on the representative itself
    assert distance["off"] > 0.5
