"""ManifoldGD through Snakemake: what is cached, what reruns, what the page shows, how mistakes read."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import DISTILLED, PROTOTYPES, TANGENTS
from limbeck.records import SUFFIX
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

METHODS = ["mgd", "manifoldgd", "manifoldgd_expected"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    made = make_workflow(tmp_path_factory.mktemp("manifold"), tiny_prior, run={"methods": METHODS, "ipc": [3], "references": []})
    made.build()
    return made


def after(method: str) -> list[tuple[str, str]]:
    return [(rule, method) for rule in ("sample", "pngs", "embed", "measure", "train")]


@pytest.mark.long
def test_the_page_has_rows_and_diagnostics(built):
    page = built.results / "fashion-mini/ipc3"
    rows = list(csv.DictReader((page / "summary.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == METHODS
    html = (page / "summary.html").read_text()
    for heading in (
        "Prototypes over the classes",
        "hull ratio",
        "Trajectories",
        "Mode guidance and the tangent space",
        "<h2>Coverage</h2>",
        "<h2>Cost</h2>",
    ):
        assert heading in html
    assert html.count("<svg viewBox") == 3  # trajectories, angles, cost
    hulls = html.split("hull ratio, %</th>")[1].split("</table>")[0]
    assert re.findall(r'<tr data-row="(\w+)"', hulls)[-2:] == [
        "mgd",
        "manifoldgd",
    ]  # manifoldgd_expected has manifoldgd's prototypes
    planes = html.split('id="prototypes"')[1].split("</table>")[0].split('<tr data-row="')
    crosses = {part.split('"')[0]: part.count('class="crosses"') for part in planes[1:]}
    assert crosses["manifoldgd_expected"] == crosses["manifoldgd"] == 10


@pytest.mark.long
def test_both_estimators_share_the_tree_and_the_prototypes(built):
    space = built.results / "fashion-mini/v32/tiny"
    assert len(list(space.glob("fits/*/0.zarr.zip"))) == 1
    assert len(list(space.glob("prototypes/divisive-*/ipc3/seed0/0.zarr.zip"))) == 1
    assert len(list((built.results / "fashion-mini/tiny/tangents").glob("*/ipc3/seed0/0.zarr.zip"))) == 2


@pytest.mark.long
def test_the_artifacts_hold_what_they_say(built):
    prototypes = next((built.results / "fashion-mini/v32/tiny/prototypes").glob("divisive-*/ipc3/seed0/0.zarr.zip"))
    with Artifact(prototypes, PROTOTYPES) as found:
        assert found["levels"].tolist() == [6, 5, 4] * 10
        members = found["members"].reshape(30, -1)
    for path in (built.results / "fashion-mini/tiny/tangents").glob("*/ipc3/seed0/0.zarr.zip"):
        with Artifact(path, TANGENTS) as found:
            assert found.shape("neighbours") == (30, 2, 63)
            assert (found["ranks"] == 3).all()
            assert found["patch_counts"].tolist() == [[125, 25]] * 30
            assert found["counts"].tolist() == [[63, 13]] * 30
            assert (found["neighbours"][:, 1, 13:] == -1).all()
            assert (found["coefficients"][:, 1, 13:] == 0).all()
            assert (np.sort(found["spectrum"], axis=-1)[..., ::-1] == found["spectrum"]).all()
            with Artifact(built.results / f"fashion-mini/v32/tiny/latents/0{SUFFIX}") as latents:
                z = latents["latents"].reshape(5000, -1).astype(np.float32)
            assert np.array_equal(z[found["patch"][:, 0]], members)  # the nearest point of a medoid is itself
    with Artifact(built.results / f"fashion-mini/tiny/manifoldgd/ipc3/seed0/distilled-0{SUFFIX}", DISTILLED) as found:
        assert found.shape("tangent_share") == (30, 2)
        assert (found["tangent_share"] > 0).all()


@pytest.mark.long
def test_an_ipc_more_grows_no_tree_again(flow):
    flow.overlay["run"]["ipc"] = [1, 3, 10, 50]
    planned = flow.planned()
    assert not [job for job in planned if job[0] in ("fit", "encode", "reduce")]
    assert sum(rule == "select" for rule, _ in planned) == 6


@pytest.mark.long
def test_a_fresh_run_builds_the_tree_once_for_all_ipcs(workflow):
    fresh = workflow(run={"methods": ["manifoldgd"], "ipc": [1, 10, 50]})
    planned = fresh.planned()
    assert sum(rule == "fit" for rule, _ in planned) == 1
    assert sum(rule == "tangents" for rule, _ in planned) == 3


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"lam_man": 0.5}, []),  # the tangents do not depend on what is projected onto them
        ({"kernel": "imq"}, []),
        ({"d": 2}, ["tangents"]),
        ({"anneal": "linear"}, ["tangents"]),
        ({"s_start": 2}, ["select", "tangents"]),
        ({"depth": 7}, ["fit", "select", "tangents"]),
        ({"query": "online"}, []),
    ],
)
def test_an_option_reaches_back_to_its_stage_and_no_further(flow, change, stages):
    flow.overlay["methods"]["manifoldgd"] |= change
    assert flow.planned() == sorted([*after("manifoldgd"), *((stage, "") for stage in stages), ("report", "")])


@pytest.mark.long
def test_correction_none_is_mode_guidance_without_tangents(flow):
    steps = {"steps": 3, "t_stop": 2}
    names = ("plain", "zero", "without")
    flow.overlay["methods"]["plain"] = {"base": "mgd", "discovery": "divisive", "target": "member", **steps}
    flow.overlay["methods"]["zero"] = {"base": "manifoldgd", "lam_man": 0, "anneal": "none", **steps}
    flow.overlay["methods"]["without"] = {"base": "manifoldgd", "correction": "none", **steps}
    flow.overlay["run"]["methods"] = list(names)
    targets = [flow.results / f"fashion-mini/tiny/{name}/ipc3/seed0/distilled-0{SUFFIX}" for name in names]
    assert flow.planned(*map(str, targets)) == [*sorted(("sample", name) for name in names), ("tangents", "")]
    flow.build(*map(str, targets))
    images = []
    for path in targets:
        with Artifact(path, DISTILLED) as found:
            images.append(found["images"])
    assert np.array_equal(images[0], images[1])
    assert np.array_equal(images[0], images[2])


@pytest.mark.long
@pytest.mark.parametrize("query", ["anchor", "online"])
def test_a_radius_that_holds_no_neighbours_names_class_and_key(flow, query):
    flow.overlay["methods"]["small"] = {"base": "manifoldgd", "radius": 0.05, "radius_unit": "absolute", "query": query}
    flow.overlay["methods"]["small"] |= {"steps": 3, "t_stop": 2, "warmup": 0}
    cell = flow.results / "fashion-mini/tiny/small"
    done = flow.snakemake("--quiet", "rules", "--show-failed-logs", "--", str(cell / "ipc3/seed0/distilled-0.zarr.zip"))
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "limbeck: error: class 'T-shirt/top': radius 0.05 leaves 1 of 500 latents around prototype 0 at guided step 0" in text
    assert "raise 'radius'" in text
    assert "Traceback" not in text
    assert not list(cell.rglob("distilled-0*"))


@pytest.mark.long
def test_a_count_that_does_not_bind_is_said_in_the_log(flow):
    flow.overlay["methods"]["many"] = {"base": "manifoldgd", "k": 300, "steps": 3, "t_stop": 2, "warmup": 0}
    flow.build(str(flow.results / "fashion-mini/tiny/many/ipc3/seed0/distilled-0.zarr.zip"))
    logs = [p.read_text() for p in (flow.results / "logs/tangents").glob("*.log")]
    assert any("class 'Bag': k 300 does not bind in 6 of 6 patches (the smallest has 25 points)" in text for text in logs)


@pytest.mark.long
def test_classes_of_different_sizes(workflow, image_folder):
    """Ragged patches are padded; a class with fewer than d + 2 images is named."""
    extra = image_folder / "train/cats & dogs"
    for i in range(6):
        (extra / f"more{i}.png").write_bytes((extra / f"{i}.png").read_bytes())
    train = {"dataset": "own", "vae": {"steps": 2, "batch_size": 4, "block_out_channels": [8, 8], "warmup": 1}}
    train["dit"] = {"steps": 2, "batch_size": 4, "layers": 1, "heads": 2, "head_dim": 8, "warmup": 1}
    flow = workflow(
        run={"datasets": ["own"], "ipc": [2], "methods": ["wide", "ward"], "references": [], "prior": "mine"},
        datasets={"own": {"source": "folder", "path": str(image_folder), "views": {"v16": {"size": 16, "resize": "crop"}}}},
        priors={"mine": {"view": "v16", "train": train}},
    )
    flow.overlay["methods"]["wide"] = {"base": "manifoldgd", "radius": 1.0, "d": 2, "steps": 3, "t_stop": 2, "warmup": 0}
    flow.overlay["methods"]["ward"] = {
        "base": "manifoldgd",
        "discovery": "agglomerative",
        "d": 2,
        "steps": 3,
        "t_stop": 2,
        "warmup": 0,
    }
    flow.build()
    assert (flow.results / "own/ipc2/summary.html").is_file()
    flow.overlay["methods"]["wide"]["d"] = 5
    target = str(flow.results / "own/mine/wide/ipc2/seed0/distilled-0.zarr.zip")
    done = flow.snakemake("--quiet", "rules", "--show-failed-logs", "--", target)
    assert "class \"b'irds\": has 6 images, fewer than d + 2 = 7: lower 'd'" in done.stdout + done.stderr
