"""D3HR through Snakemake: statistics shared by variants and IPCs, the page's normality and storage, images from them alone."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from limbeck.artifacts import DISTILLED, STARTS, STATISTICS
from limbeck.errors import LimbeckError
from limbeck.records import SUFFIX
from limbeck.selection.group import Sampling, latents
from limbeck.store import Artifact
from tests.conftest import Workflow, make_workflow

SMALL = {"steps": 4, "inversion_step": 2, "candidates": 200}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    made = make_workflow(
        tmp_path_factory.mktemp("d3hr"),
        tiny_prior,
        run={"methods": ["d3hr", "base_rs"], "ipc": [3], "references": []},
        methods={"d3hr": {"base": "d3hr", **SMALL}, "base_rs": {"base": "d3hr", **SMALL, "candidates": 1}},
    )
    made.build()
    return made


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


@pytest.mark.long
def test_variants_share_the_statistics_and_the_page_shows_them(built):
    prior = built.results / "fashion-mini/tiny"
    with Artifact(only(prior, f"inverted/inversion-*/0{SUFFIX}"), STATISTICS) as found:
        assert found["counts"].tolist() == [500] * 10
        assert found.shape("rejected") == (10, 3)
    assert len(list(prior.glob("starts/gaussian-*"))) == 2
    page = built.results / "fashion-mini/ipc3"
    assert [row["method"] for row in csv.DictReader((page / "summary.csv").read_text().splitlines())] == ["d3hr", "base_rs"]
    html = (page / "summary.html").read_text()
    assert "How Gaussian the classes become" in html
    assert "Storage, kB" in html
    assert built.planned() == []


@pytest.mark.long
def test_the_winner_is_an_index_and_regenerates_what_was_sampled_from(built):
    """Sampling from step 0 of a grid that ends at once: with no step left the distilled latents are the drawn ones."""
    built.overlay["methods"]["still"] = {"base": "d3hr", "steps": 4, "inversion_step": 0, "candidates": 50}
    target = built.results / f"fashion-mini/tiny/still/ipc3/seed7/distilled-0{SUFFIX}"
    built.build(str(target))
    prior = built.results / "fashion-mini/tiny"
    name = next(p for p in prior.glob(f"starts/gaussian-*/ipc3/seed7/0{SUFFIX}"))
    with Artifact(target, DISTILLED) as made, Artifact(name, STARTS) as starts:
        found, indices = made["latents"], starts["indices"]
    statistics = next(p for p in prior.glob(f"inverted/*/0{SUFFIX}") if Artifact(p, STATISTICS).shape("rejected")[1] == 1)
    with Artifact(statistics, STATISTICS) as s:
        mean, sd = s["mean"].reshape(10, -1), np.sqrt(s["variance"].reshape(10, -1))
    sampling = Sampling(n=3, candidates=50)
    for label in range(10):
        expected = latents(mean[label], sd[label], indices[label], sampling, 7, label)
        assert np.array_equal(found[3 * label : 3 * label + 3].reshape(3, -1), expected)
    del built.overlay["methods"]["still"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "rules"),
    [
        ({"cfg_scale": 1.0}, {"sample"}),
        ({"l_skew": 0.0}, {"draw", "sample"}),
        ({"blocks": 4}, {"draw", "sample"}),
        ({"inversion_step": 3}, {"invert", "draw", "sample"}),
        ({"inversion": "ddpm"}, {"invert", "draw", "sample"}),
    ],
)
def test_an_option_reaches_back_to_its_stage_and_no_further(flow, options, rules):
    flow.overlay["methods"]["d3hr"] |= options
    planned = flow.planned()
    assert {rule for rule, _ in planned} == rules | {"pngs", "embed", "measure", "train", "report"}
    assert "base_rs" not in {method for _, method in planned}


@pytest.mark.long
@pytest.mark.parametrize(("cores", "threads"), [(2, 1), (3, 2)])
def test_group_sampling_takes_two_cores_of_more_than_two(flow, cores, threads):
    """Of two it would wait until both were free at once."""
    flow.overlay["methods"]["d3hr"] |= {"l_skew": 0.0}
    assert flow.threads("draw", cores) == [threads]


@pytest.mark.long
def test_another_ipc_or_seed_inverts_nothing_again(flow):
    flow.overlay["run"] |= {"ipc": [3, 5], "seeds": [0, 1]}
    assert "invert" not in {rule for rule, _ in flow.planned()}


@pytest.mark.long
def test_images_are_generated_from_the_statistics_alone(built, tmp_path):
    prior = built.results / "fashion-mini/tiny"
    statistics = only(prior, f"inverted/inversion-*/0{SUFFIX}") if len(list(prior.glob("inverted/*"))) == 1 else None
    statistics = statistics or next(
        p for p in prior.glob(f"inverted/*/0{SUFFIX}") if Artifact(p, STATISTICS).shape("rejected")[1] == 3
    )
    command = [sys.executable, "-m", "limbeck", "generate", str(statistics), "--ipc", "3", "--out", str(tmp_path / "out")]
    command += ["--channels", "1", "--candidates", "200", "--cfg-scale", "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, env=built.env, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out/images").rglob("*.png"))) == 30
    with (
        Artifact(tmp_path / f"out/distilled-0{SUFFIX}", DISTILLED) as a,
        Artifact(prior / f"d3hr/ipc3/seed0/distilled-0{SUFFIX}", DISTILLED) as b,
    ):
        assert np.abs(a["latents"] - b["latents"]).max() < 1e-4
    command[command.index(str(statistics))] = str(tmp_path / "nothing.zarr.zip")
    done = subprocess.run(command, capture_output=True, text=True, env=built.env, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("limbeck: error: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inversion_step": 5}, "methods.d3hr.inversion_step: 5 is beyond the grid of 4 steps"),
        ({"solver": "ddpm"}, "methods.d3hr.solver: 'ddpm' cannot start from inverted latents"),
        ({"candidates": 0}, "methods.d3hr.candidates"),
        ({"start": "somewhere"}, "methods.d3hr.start: unknown component 'somewhere'"),
    ],
)
def test_what_cannot_be_is_refused_before_any_job(tmp_path, tiny_prior, options, message):
    flow = make_workflow(
        tmp_path / "w", tiny_prior, run={"methods": ["d3hr"]}, methods={"d3hr": {"base": "d3hr", **SMALL, **options}}
    )
    with pytest.raises(LimbeckError, match=message.replace(".", r"\.")):
        flow.plan()
