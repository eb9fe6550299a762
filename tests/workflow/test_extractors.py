"""Through Snakemake: metrics in the features of several extractors, at one image per class."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from limbeck.records import read_json
from tests.conftest import ROOT, Workflow, make_workflow, write_small
from tests.elements import Elements
from tests.unit.test_extractors import Inception, save_script

BALLS = ("precision", "recall", "density", "knn_coverage")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    """Chosen images in the teacher's features to the page; an extractor that nobody asks for."""
    folder = tmp_path_factory.mktemp("extractors")
    save_script(folder / "i.pt", Inception())
    write_small(folder / "small.npz")
    small = {"source": "npz", "path": str(folder / "small.npz"), "channels": 1, "views": {"v32": {"size": 32, "resize": "pad"}}}
    made = make_workflow(
        folder,
        tiny_prior,
        run={"datasets": ["small"], "methods": ["random"], "references": ["full"], "ipc": [1]},
        datasets={"small": small},
        extractors={"i": {"kind": "inception", "weights": str(folder / "i.pt")}},
    )
    made.build()
    return made


def summary(flow: Workflow) -> list[dict[str, str]]:
    return list(csv.DictReader((flow.results / "small/ipc1/summary.csv").read_text().splitlines()))


def measured(flow: Workflow, extractor: str) -> dict:
    return read_json(flow.results / f"small/none/random/ipc1/seed0/metrics/{extractor}.json", "metrics")


@pytest.mark.long
def test_one_image_per_class_leaves_blanks_and_dashes(built):
    lines = summary(built)
    found = measured(built, "teacher")
    assert found["div_class_teacher"] is None
    assert [line["div_class_teacher"] == "" for line in lines] == [line["method"] != "full" for line in lines]
    assert all(float(line["fd_teacher"]) >= 0 for line in lines)
    markdown = (built.results / "small/ipc1/summary.md").read_text()
    row = next(line for line in markdown.splitlines() if line.startswith("| random"))
    assert row.split("|")[-3].strip() == "–"
    page = (built.results / "small/ipc1/summary.html").read_text()
    assert re.search(r"trajectory_norm_variance</th>\s*<td[^>]*>–</td>", page)


@pytest.mark.long
def test_an_extractor_more_computes_its_features_and_metrics_and_nothing_else(flow):
    flow.overlay["run"]["extractors"] = ["i", "teacher"]
    # the whole training set's features are the real ones
    jobs = sorted(
        [("features", ""), ("features", ""), ("embed", "random"), ("measure", "full"), ("measure", "random"), ("report", "")]
    )
    assert flow.planned() == jobs
    before = {row["method"]: row["fd_teacher"] for row in summary(flow)}
    flow.build()
    lines = summary(flow)
    assert {row["method"]: row["fd_teacher"] for row in lines} == before
    assert not {"fd_i", "agreement_i"} & set(lines[0])
    assert all(line[f"{name}_i"] for line in lines for name in ("fid", "kid", *BALLS))  # ten images
    assert ">fid_i</th>" in (flow.results / "small/ipc1/summary.html").read_text()
    markdown = (flow.results / "small/ipc1/summary.md").read_text()
    row = next(line for line in markdown.splitlines() if line.startswith("| random"))
    assert "`i`" in markdown  # tables print the first
    assert f"{measured(flow, 'i')['fid_i']:.2f}" in row
    other = Inception()
    other.register_buffer("unread", torch.zeros(1))
    save_script(flow.folder / "i.pt", other)
    assert flow.planned() == jobs


@pytest.mark.long
def test_a_run_of_several_ipcs_has_a_page_over_them(flow):
    flow.overlay["run"]["ipc"] = [1, 2]
    page = flow.results / "small/summary.html"
    assert str(page) in flow.plan().targets()
    flow.build(str(page))  # from the students of both, whatever else is missing
    found = Elements(page)
    assert [each["href"] for each in found.all("a")] == ["ipc1/summary.html", "ipc2/summary.html"]
    assert found.text.rsplit("method", 1)[1].count("±") == 2 * 2
    assert flow.planned(str(page)) == []


@pytest.mark.long
def test_jobs_ask_no_network_where_the_config_says_offline(workflow, tmp_path):
    flow = workflow(extractors={"far": {"kind": "hf", "weights": "nobody/resnet"}})
    # whatever the environment says, and with no server that has imported the hub's client already
    kept = {key: value for key, value in os.environ.items() if key != "LIMBECK_WARM"}
    env = kept | {"HF_HUB_OFFLINE": "0", "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "Snakefile"), "--directory", str(flow.folder), "--cores", "1"]
    command += [
        "--configfile",
        *flow.configs(),
        "--quiet",
        "rules",
        "--",
        f"{flow.results}/fashion-mini/features/far/test-0.zarr.zip",
    ]
    done = subprocess.run(command, cwd=flow.folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "nobody/resnet is neither a folder here nor can be fetched offline (the config's key, or HF_HUB_OFFLINE)" in done.stderr
