"""A set made elsewhere as a row of the table: random's own images, brought back, are worth exactly what random's are."""

import csv
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from limbeck.records import read_json
from tests.conftest import Workflow, make_workflow

CELL = "fashion-mini/none/{}/ipc2/seed0"
AGAIN = sorted([*((rule, "theirs") for rule in ("imported", "embed", "pngs", "measure", "train")), ("report", "")])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    """``random``'s images exported, the folder copied away and taken as another method's."""
    folder = tmp_path_factory.mktemp("imported")
    made = make_workflow(folder, tiny_prior, run={"methods": ["random"], "references": []})
    exported = made.results / CELL.format("random") / "images"
    made.build(str(exported / "classes.json"))
    shutil.copytree(exported, folder / "theirs {2}, ipc2")
    made.overlay["run"]["methods"] = ["random", "theirs"]
    made.overlay["methods"]["theirs"] = {"base": "imported", "path": {2: str(folder / "theirs {2}, ipc2")}}
    made.build()
    return made


@pytest.mark.long
def test_the_same_images_are_worth_the_same(built):
    cells = [built.results / CELL.format(name) for name in ("random", "theirs")]
    results = [read_json(cell / "students/smoke/convnet3-w32.json", "student") for cell in cells]
    assert results[0] == results[1]
    assert read_json(cells[0] / "metrics/teacher.json", "metrics") == read_json(cells[1] / "metrics/teacher.json", "metrics")
    rows = list(csv.DictReader((built.results / "fashion-mini/ipc2/summary.csv").read_text().splitlines()))
    assert [row.pop("method") for row in rows] == ["random", "theirs"]
    assert rows[0] == rows[1]
    page = (built.results / "fashion-mini/ipc2/summary.html").read_text()
    assert "imported" in page
    assert "theirs {2}, ipc2" in page


@pytest.mark.long
def test_a_second_run_has_nothing_to_do(flow):
    assert flow.planned() == []


@pytest.mark.long
def test_times_alone_recompute_nothing_behind_the_images(flow):
    images = flow.results / CELL.format("theirs") / "distilled-0.zarr.zip"
    before = images.read_bytes()
    os.utime(flow.folder / "theirs {2}, ipc2/3-Dress/00001.png")
    assert ("imported", "theirs") in flow.planned()
    flow.build(str(images))
    assert images.read_bytes() == before
    assert flow.planned() == []


@pytest.mark.long
def test_a_replaced_file_reruns_what_depends_on_it(flow):
    Image.new("L", (32, 32), 7).save(flow.folder / "theirs {2}, ipc2/3-Dress/00001.png")
    assert flow.planned() == AGAIN


@pytest.mark.long
def test_a_missing_image_stops_before_any_job(flow):
    (flow.folder / "theirs {2}, ipc2/3-Dress/00001.png").unlink()
    done = flow.snakemake("-n")
    text = done.stdout + done.stderr
    assert done.returncode != 0
    assert "methods.theirs.path: class 'Dress' has 1 instead of 2 images in" in text
    assert "Traceback" not in text
