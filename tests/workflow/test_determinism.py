"""Same work, same bytes: in another folder, with other shards, and to float tolerance with other batch sizes."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import DISTILLED, IMAGES, LATENTS
from limbeck.options import TangentOptions
from limbeck.records import SUFFIX
from limbeck.stages import sample, select, tangents
from limbeck.stages.common import read_all
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

CELL = "fashion-mini/tiny/mgd/ipc2/seed0"
MANIFOLD = "fashion-mini/tiny/manifoldgd/ipc2/seed0"


def build(folder: Path, prior: Path, shards: int) -> Workflow:
    dataset = {"source": "npz", "path": "package:fashion_mini.npz", "channels": 1, "shards": shards}
    dataset["views"] = {"v32": {"size": 32, "resize": "pad"}}
    made = make_workflow(folder, prior, datasets={"fashion-mini": dataset})
    cell = made.results / CELL
    wanted = [cell / name for name in ("metrics/teacher.json", "students/smoke/convnet3-w32.json", "images/classes.json")]
    made.build(*map(str, wanted), *(str(made.results / MANIFOLD / f"distilled-{s}{SUFFIX}") for s in range(shards)))
    return made


@pytest.fixture(scope="module")
def one(tmp_path_factory, tiny_prior):
    return build(tmp_path_factory.mktemp("one"), tiny_prior, 1)


@pytest.mark.long
def test_two_folders_give_identical_artifacts(one, tmp_path_factory, tiny_prior):
    other = build(tmp_path_factory.mktemp("two"), tiny_prior, 1)
    files = [p for p in one.results.rglob("*") if p.is_file() and not p.name.endswith(".prov.json")]
    files = [p for p in files if p.suffix != ".log"]
    assert sum(p.name.endswith(SUFFIX) for p in files) == 13
    for path in files:
        assert path.read_bytes() == (other.results / path.relative_to(one.results)).read_bytes(), path


@pytest.mark.long
def test_shards_change_no_result(one, tmp_path_factory, tiny_prior):
    three = build(tmp_path_factory.mktemp("three"), tiny_prior, 3)
    for name in ("metrics/teacher.json", "students/smoke/convnet3-w32.json", "images/classes.json"):
        assert (one.results / CELL / name).read_bytes() == (three.results / CELL / name).read_bytes(), name
    for pattern, schema, arrays in (
        ("v32/images/train-{}", IMAGES, ("images", "labels")),
        ("v32/tiny/latents/{}", LATENTS, ("latents",)),
        ("tiny/mgd/ipc2/seed0/distilled-{}", DISTILLED, ("images", "latents", "labels", "step_norms")),
        ("tiny/manifoldgd/ipc2/seed0/distilled-{}", DISTILLED, ("images", "latents", "labels", "tangent_share")),
    ):
        paths = [[w.results / "fashion-mini" / (pattern.format(s) + SUFFIX) for s in range(n)] for w, n in ((one, 1), (three, 3))]
        for a, b in zip(read_all(paths[0], schema, *arrays), read_all(paths[1], schema, *arrays), strict=True):
            assert np.array_equal(a, b)


MODE = {"kind": "mode", "weight": 0.3, "t_stop": 3, "target": "member", "noise": "recompute", "kernel": "rbf", "bandwidth": None}
TANGENT = {key: field.default for key, field in TangentOptions.model_fields.items()} | {"warmup": 0, "points": 40}


@pytest.mark.long
@pytest.mark.parametrize("solver", ["ddim", "ddpm"])
@pytest.mark.parametrize("kind", ["mode", "anchor", "online", "synthetic"])
def test_batch_size_changes_images_by_rounding_alone(one, tmp_path, solver, kind):
    mini, prior = one.results / "fashion-mini/v32", one.results / "priors/tiny"
    latents, files = mini / f"tiny/latents/0{SUFFIX}", {"prototypes": tmp_path / f"prototypes{SUFFIX}"}
    discovery = {"discovery": {"kind": "random"}, "ipc": 9, "seed": 0, "code": "x"}
    select.run(discovery, latents, files["prototypes"])
    spec = {
        "guidance": [MODE],
        "tangents": None,
        "sampler": {"solver": solver, "steps": 4, "cfg_scale": 1.5, "cfg_channels": "all"},
        "start": None,
        "family": "dit",
        "prior": {"size": 32},
        "size": 32,
        "channels": 1,
        "ipc": 9,
        "seed": 0,
        "code": "x",
    }
    if kind != "mode":
        options = {
            **TANGENT,
            "t_stop": 3,
            "target": "member",
            "solver": solver,
            "steps": 4,
            "query": "online" if kind == "online" else "anchor",
        }
        options["neighbourhood"] = "synthetic" if kind == "synthetic" else "real"
        guidance = {**MODE, **options, "kind": "manifold", "correction": "project", "lam_man": 0.7, "anneal_lambda": False}
        spec |= {"tangents": options, "guidance": [guidance]}
        files["latents"] = latents
    if kind in ("anchor", "synthetic"):
        files["tangents"] = tmp_path / f"tangents{SUFFIX}"
        tangents.run(spec, latents, files["prototypes"], prior / "scheduler/scheduler_config.json", files["tangents"])
    outputs = []
    for batch in (7, 64):
        spec["sampler"]["batch_size"] = batch
        out = tmp_path / f"{batch}{SUFFIX}"
        sample.run(spec, mini / f"images/train-0{SUFFIX}", prior / "model_index.json", out, **files)
        with Artifact(out, DISTILLED) as found:
            outputs.append((found["images"].astype(int), found["latents"]))
    assert np.abs(outputs[0][0] - outputs[1][0]).max() <= 1
    assert np.allclose(outputs[0][1], outputs[1][1], atol=1e-4)
