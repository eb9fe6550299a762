"""A paper's table as a page: our number beside the printed one where it is built, and what is missing where it is not."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from limbeck import papers
from limbeck.errors import LimbeckError
from limbeck.plan import Plan
from limbeck.report import published
from limbeck.report.published import NOT_HERE, Number, Table
from limbeck.stages import paper
from tests.conftest import Workflow, make_workflow

TINY = {"dataset": "fashion-mini", "ipc": 2, "protocol": "smoke", "student": "convnet3-w32", "prior": "tiny"}


def lines_of(page: Path) -> dict[tuple[str, str], dict[str, str]]:
    """(row, column) -> the csv's line."""
    with page.with_suffix(".csv").open(encoding="utf-8", newline="") as file:
        return {(line["row"], line["column"]): line for line in csv.DictReader(file)}


def table(monkeypatch: pytest.MonkeyPatch, columns: Mapping[str, Any], printed: str = "40.0") -> None:
    """A table of one row, as if a paper had it; under the config of one that it has."""
    cells = {column: ({}, where) if isinstance(where, str) else (where, "") for column, where in columns.items()}
    numbers = [Number("IPC 2", column, printed, "1.5", *cell) for column, cell in cells.items()]
    made = Table("ManifoldGD", "table8", "A table of <two> methods", list(columns), ["IPC 2"], numbers, "")
    monkeypatch.setattr(published, "papers", lambda: {"manifoldgd": {"table8": made}})


def page_of(plan: Plan, folder: Path) -> Path:
    page = folder / "papers/manifoldgd/table8.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    paper.run(json.loads(json.dumps(papers.spec(plan, "manifoldgd", "table8"))), page)
    return page


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Workflow:
    """One cell of a set of real images, built, trained on twice."""
    flow = make_workflow(
        tmp_path_factory.mktemp("papers") / "w",
        tiny_prior,
        run={"methods": ["random", "dit"], "repeats": 2, "references": [], "held_out": 0},
    )
    plan = flow.plan()
    flow.build(f"{plan.cell('fashion-mini', 'random', 2, 0)}/students/smoke/convnet3-w32.json")
    return flow


def test_our_number_stands_beside_the_papers(flow, monkeypatch):
    table(monkeypatch, {"Random": {**TINY, "method": "random"}, "DiT": {**TINY, "method": "dit"}, "Others": NOT_HERE})
    overlay = {**flow.overlay, "run": {**flow.overlay["run"], "table": "manifoldgd/table8"}}
    plan = Workflow(flow.folder, overlay).plan()
    assert plan.targets() == [f"{flow.results}/papers/manifoldgd/table8.html"]
    cells = [f"{plan.cell('fashion-mini', name, 2, 0)}/students/smoke/convnet3-w32.json" for name in ("random", "dit")]
    assert papers.inputs(plan, "manifoldgd", "table8") == cells

    # as if DiT were of a machine without its weights
    gone = {**overlay, "priors": {"tiny": {"weights": "/nowhere/tiny", "view": "v32"}}}
    plan = Workflow(flow.folder, gone).plan()
    assert papers.inputs(plan, "manifoldgd", "table8") == cells[:1]
    page = page_of(plan, flow.results)
    accuracies = [repeat["accuracy"] for repeat in json.loads(Path(cells[0]).read_text())["results"]["repeats"]]
    mean = 50 * sum(accuracies)
    found, text = lines_of(page), page.read_text()
    ours = found["IPC 2", "Random"]
    assert (ours["paper"], ours["paper_sd"], ours["ours"], ours["missing"]) == ("40.0", "1.5", f"{mean:.1f}", "")
    assert ours["difference"] == f"{mean - 40:+.1f}"
    assert ours["ours_sd"] == f"{100 * abs(accuracies[0] - accuracies[1]) / 2**0.5:.1f}"
    assert f"<b>{mean:.1f} ± " in text
    assert "1 of 2 numbers are ours too" in text
    assert "priors.tiny.weights: missing in /nowhere/tiny: model_index.json" in found["IPC 2", "DiT"]["missing"]
    assert 'title="prior tiny">missing <a href="#missing">1</a>' in text
    assert found["IPC 2", "Others"]["not_ours"] == NOT_HERE
    assert "A table of &lt;two&gt; methods" in text
    assert f"{mean:.1f}" in page.with_suffix(".md").read_text()


def test_of_several_protocols_the_higher_counts_and_of_several_students_the_mean(monkeypatch, tmp_path):
    def result(accuracies: list[float]) -> dict[str, Any]:
        repeats = [
            {"repeat": 0, "accuracy": a, "selected": None, "best": None, "failed": "", "per_class": [a, 0.0], "confusion": None}
            for a in accuracies
        ]
        repeats = repeats or [{"repeat": 0, "failed": "loss is not a number"}]
        return {"repeats": repeats, "test_images": 100, "labels": {"kind": "hard"}}

    given = {"a/x": [0.2], "a/y": [0.4], "b/x": [0.5], "b/y": [0.5]}
    monkeypatch.setattr(paper, "read_json", lambda path, _: result(given["/".join(Path(path).with_suffix("").parts[-2:])]))
    files = {"0": [["s/a/x.json", "s/a/y.json"], ["s/b/x.json", "s/b/y.json"]]}
    number = {"row": "r", "column": "c", "value": "31.25", "sd": "", "files": files, "class": None, "missing": []}
    assert paper._shown(number, tmp_path, []).ours == "50.00"
    assert paper._shown({**number, "files": {"0": files["0"][:1]}}, tmp_path, []).difference == "-1.25"
    assert paper._shown({**number, "files": {"0": [["s/a/y.json"]]}, "class": 0}, tmp_path, []).ours == "40.00"
    given["b/x"] = []
    assert paper._shown(number, tmp_path, []).lacks == ["failed trainings"]


def test_a_run_of_another_config_shows_what_is_there(flow, monkeypatch):
    """Without the table's own config nothing is built, and what an earlier run has left is shown."""
    where = {**TINY, "dataset": "imagenette", "ipc": 10, "protocol": "minimax-hard-256", "student": "resnetap10", "prior": "dit-xl"}
    table(monkeypatch, {"DiT": {**where, "method": "dit"}, "MGD": {**where, "method": "mgd", "prior": "sdxl"}})
    plan = flow.plan()
    assert papers.inputs(plan, "manifoldgd", "table8") == []
    spec = papers.spec(plan, "manifoldgd", "table8")
    found = [[spec["missing"][place] for place in number["missing"]] for number in spec["numbers"]]
    assert [line.partition(":")[0] for line in found[0]] == ["datasets.imagenette", "priors.dit-xl.weights"]
    assert found[1] == ['priors.sdxl: of a run of its own, --config \'run={"prior": "sdxl"}\'']
    built = flow.results / "fashion-mini/none/random/ipc2/seed0/students/smoke/convnet3-w32.json"
    for seed in (0, 1, 2):
        copy = flow.results / f"imagenette/sdxl/mgd/ipc10/seed{seed}/students/minimax-hard-256/resnetap10.json"
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(built.read_bytes())
    found = papers.spec(plan, "manifoldgd", "table8")["numbers"]
    assert len(found[1]["files"]) == 3
    assert found[1]["digest"]


def test_without_data_and_prior_the_page_says_what_is_missing(tmp_path):
    config = papers.config("manifoldgd", "table8")
    flow = Workflow(tmp_path, {key: value for key, value in config.items() if key != "results"})
    flow.build()
    page = flow.results / "papers/manifoldgd/table8.html"
    found, text = lines_of(page), page.read_text()
    assert {(line["ours"], line["paper"] != "") for line in found.values()} == {("", True)}
    for line in found.values():
        data, prior = line["missing"].split("; priors.")
        assert data.startswith("datasets.imagenette: ")
        assert "data/imagenette2" in data
        assert prior.startswith("dit-xl.weights: facebook/DiT-XL-2-256 is ")
    assert 'title="data imagenette, prior dit-xl">missing <a href="#missing">1, 2</a>' in text
    assert "0 of 6 numbers are ours too" in text
    assert "workflow/configs/imagenette.yaml workflow/configs/papers/manifoldgd-table8.yaml" in text
    assert "r is a quantile" in text  # an ASSUME of the benchmark's overlay
    assert not {"http://", "https://", "src=", "@import"} & set(re.findall(r"https?://|src=|@import", text))


def test_a_wrong_key_is_an_error_all_the_same():
    config = papers.config("manifoldgd", "table8")
    config["run"]["students"] = ["snark"]
    with pytest.raises(LimbeckError, match=r"run\.students: unknown name 'snark'"):
        Plan(config)


def test_what_an_overlay_assumes_is_read_with_what_it_is_of():
    text = """# A head that says nothing.
run:
  seeds: [0]   # ASSUME: one
  # Something else.
  # The paper prints nothing. ASSUME: this
  # and that
  # Another matter
  # ASSUME: a whole line, which is so long that it is full, and whose next one therefore goes on although it begins with
  # ImageNet
"""
    *short, long = papers._assumed(text)
    assert short == ["seeds: [0] # ASSUME: one", "The paper prints nothing. ASSUME: this and that"]
    assert long.endswith("although it begins with ImageNet")
