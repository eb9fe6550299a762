"""invert through Snakemake, asked for by its artifact's path: shards change nothing, and what reruns."""

from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import LATENTS, STATISTICS
from limbeck.records import SUFFIX
from limbeck.stages.common import read_all
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

D3HR = {"base": "d3hr", "steps": 4, "inversion_step": 2, "inversion_scale": 1.5, "keep_latents": True}


def made(folder: Path, prior: Path, shards: int, **options: object) -> Workflow:
    dataset = {"source": "npz", "path": "package:fashion_mini.npz", "channels": 1, "shards": shards}
    dataset["views"] = {"v32": {"size": 32, "resize": "pad"}}
    return make_workflow(
        folder,
        prior,
        datasets={"fashion-mini": dataset},
        methods={"own": {**D3HR, **options}},
        run={"methods": ["random"], "references": []},  # the method itself is not in the run
    )


def targets(flow: Workflow, ipc: int = 2) -> list[str]:
    plan = flow.plan()
    method = plan.method("own", ipc, "fashion-mini")
    return [str(plan.inverted("fashion-mini", method, shard)) for shard in plan.shards("fashion-mini")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    flow = made(tmp_path_factory.mktemp("one"), tiny_prior, 1)
    flow.build(*targets(flow))
    return flow


@pytest.mark.long
def test_shards_change_no_byte_of_a_class(built, tmp_path, tiny_prior):
    two = made(tmp_path / "two", tiny_prior, 2)
    two.build(*targets(two))
    with Artifact(targets(built)[0], STATISTICS) as found:
        names = list(found.group)
        assert found["counts"].tolist() == [500] * 10
    for name in names:
        one, other = (read_all(targets(flow), STATISTICS, name)[0] for flow in (built, two))
        assert one.tobytes() == other.tobytes(), name


@pytest.mark.long
def test_moments_are_those_of_the_kept_latents_in_float64(built):
    with Artifact(targets(built)[0], STATISTICS) as found:
        z = found["latents"].astype(np.float64).reshape(10, 500, 4, 8, 8)
        assert np.allclose(found["mean"], z.mean(axis=1), rtol=1e-6, atol=1e-7)
        assert np.allclose(found["variance"], z.var(axis=1, ddof=1), rtol=1e-6)
        with Artifact(built.results / f"fashion-mini/v32/tiny/latents/0{SUFFIX}", LATENTS) as latents:
            assert not np.allclose(z.reshape(5000, 4, 8, 8), latents["latents"], atol=0.1)


@pytest.mark.long
def test_only_its_own_options_run_it_again(built, tmp_path, tiny_prior):
    assert built.planned(*targets(built)) == []
    same = made(built.folder, tiny_prior, 1, candidates=10, cfg_scale=3.0)
    assert same.planned(*targets(same)) == []
    same.overlay["run"]["ipc"] = [1, 7]
    assert same.planned(*targets(same, 7)) == []
    other = made(built.folder, tiny_prior, 1, inversion_step=3)
    assert other.planned(*targets(other)) == [("invert", "")]
    fresh = made(tmp_path / "fresh", tiny_prior, 1)
    assert [rule for rule, _ in fresh.planned(*targets(fresh))] == ["encode", "ingest", "invert", "prior_dit"]
