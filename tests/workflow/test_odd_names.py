"""Folders, classes and images of any name: the page has its labels, nothing runs in a shell, nothing is written elsewhere."""

import csv
import json
import re
import shutil
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from limbeck.config import Config
from limbeck.errors import LimbeckError
from tests.conftest import ROOT, Workflow
from tests.elements import Elements
from tests.workflow.test_own_images import OWN

TOUCH = "$(touch pwned) `touch pwned`; touch pwned & touch pwned | (x) > pwned < pwned # * ? [a-b] ~ ! \\ %s %(x)s $HOME ü 猫"
TOUCH += " 'q' \"d\""
CLASSES = ["-rf", "'; touch pwned; '", "$(touch pwned)", "<b onclick=alert(1)>&<script>", "a\nb {shard} $x$ \\frac", "ünï 猫"]
VIEW = {"size": 16, "resize": "crop"}


def write_images(root: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for split, count in (("train", 5), ("test", 2)):
        for tint, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.uint8(40 * tint + rng.integers(0, 30, (20, 24, 3)))
                Image.fromarray(pixels).save(folder / f"-{i} $(touch pwned)'\n{{x}}.png")


@pytest.mark.long
def test_a_run_through_folders_and_classes_of_any_name(workflow, tmp_path, tiny_clip):
    home = tmp_path / TOUCH
    write_images(home / "own {set}", 0)
    clip = Path(shutil.copytree(tiny_clip, home / "clip"))
    data = {"own": {"source": "folder", "path": str(home / "own {set}"), "views": {"v16": VIEW}}}
    flow = workflow("w; touch pwned $(touch pwned)", **OWN, datasets=data)
    flow.overlay["results"] = f"{TOUCH}/results"
    flow.overlay["extractors"] = {"clip": {"kind": "clip", "weights": str(clip)}}
    flow.overlay["run"]["extractors"] = ["clip"]
    flow.results = flow.folder / flow.overlay["results"]
    before = outside(flow, tmp_path)
    flow.build()
    rows = list(csv.DictReader((flow.results / "own/ipc2/summary.csv").read_text().splitlines()))
    assert [(row["method"], row["images"]) for row in rows] == [("full", "30"), ("random", "12"), ("kmeans", "12"), ("mgd", "12")]
    cell = flow.results / "own/mine/mgd/ipc2/seed0/images"
    classes = json.loads((cell / "classes.json").read_text())["results"]["classes"]
    assert [each["name"] for each in classes] == sorted(CLASSES)
    assert sorted(path.name for path in cell.iterdir() if path.is_dir()) == [each["folder"] for each in classes]
    index = json.loads((flow.results / "priors/mine/model_index.json").read_text())
    assert list(index["id2label"].values()) == sorted(CLASSES)
    page = Elements(flow.results / "own/ipc2/summary.html")
    for name in CLASSES:
        assert name in page.text
    assert len(page.all("script")) == 1  # the page's own
    assert page.handlers() == []
    assert not page.all("b")
    with ZipFile(cell.with_suffix(".zip")) as archive:
        members = archive.namelist()
    assert len(members) == 13
    assert all(re.fullmatch(r"classes\.json|\d-[A-Za-z0-9-]+/\d{5}\.png", name) for name in members)
    # nothing ran in a shell, nothing was written elsewhere
    assert not list(tmp_path.rglob("pwned"))
    assert outside(flow, tmp_path) == before
    assert {path.name for path in flow.folder.iterdir()} == {".snakemake", "cache", "overlay.yaml", TOUCH}
    assert flow.planned() == []
    first = home / "own {set}/train" / CLASSES[0]
    shutil.copy(next(first.iterdir()), first / "new.png")
    assert ("ingest", "") in flow.planned()


def outside(flow: Workflow, folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_relative_to(flow.folder)}


def test_a_class_that_is_not_utf8_is_refused(workflow, tmp_path):
    for split in ("train", "test"):
        folder = tmp_path / "own" / split / "\udcff"
        folder.mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(folder / "0.png")
    flow = workflow(
        run={"datasets": ["own"]}, datasets={"own": {"source": "folder", "path": str(tmp_path / "own"), "views": {"v32": {}}}}
    )
    with pytest.raises(LimbeckError, match=r"datasets.own: class '\\udcff' is not UTF-8; rename its folder"):
        flow.plan()


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ("a{b}", "results: has braces"),
        ("a\nb", "line breaks"),
        ("a\0b", "invisible characters"),
        ("-rf", "begins with '-'"),
        ("~/results", "begins with '-', '~'"),
        ("", "is empty"),
        (" x", "or a blank"),
        ("s3://bucket/x", "--default-storage-prefix"),
    ],
)
def test_folders_that_snakemake_cannot_take_are_refused(results, said):
    with pytest.raises(ValueError, match="results") as caught:
        Config(results=results)
    assert said in str(caught.value).replace("results\n  Value error, ", "results: ")


@pytest.mark.parametrize("section", ["priors", "extractors", "teachers"])
def test_weights_in_files_with_braces_are_refused(section):
    with pytest.raises(ValueError, match="takes for a wildcard; rename the folder or file"):
        Config(**{section: {"a": {"weights": "/x/{y}.pt"}}})


@pytest.mark.parametrize(("given", "taken"), [("./a//b/", "a/b"), ("/x/../y", "/y"), ("a;b $(c) 'd' \"e\"", "a;b $(c) 'd' \"e\"")])
def test_a_folder_has_one_name(given, taken):
    assert Config(results=given).results == taken


def test_every_path_in_a_rule_is_quoted():
    text = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    commands = "".join(re.findall(r"^ +[\"'](?:exec python| ).*", text, re.M))
    placeholders = re.findall(r"\{((?:input|output|log|params)\b[^}]*)\}", commands)
    assert len(placeholders) > 150
    # options and their quoted paths, a number
    ready = {
        "params.fitted",
        "params.features",
        "params.refined",
        "params.given",
        "params.extractor",
        "params.held",
        "params.shards",
    }
    assert {name for name in placeholders if not name.endswith(":q")} == ready
