"""The stages ``report`` and ``overview`` on a small made-up set of results."""

import csv
import json
import re
from pathlib import Path

import pytest
import yaml

from limbeck.plan import Plan
from limbeck.stages import report
from tests.elements import Elements
from tests.made_report import CLASSES, KINDS, ROWS, STUDENT, make_pages, make_spec

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a report over made-up cells."""
    return make_pages(tmp_path_factory.mktemp("report"))


def test_the_csv_has_a_line_per_row_and_protocol(made):
    rows = list(csv.DictReader((made / "summary.csv").read_text().splitlines()))
    assert [(row["method"], row["protocol"]) for row in rows] == [(name, protocol) for name in ROWS for protocol in KINDS]
    failed = next(row for row in rows if row["failed"] != "0")
    assert (failed["method"], failed["protocol"], failed["failed"], failed["accuracy"]) == ("dit", "minimax-hard-256", "1", "")
    assert failed["failure"].startswith("seed 1, repeat 1: the loss is nan")
    assert {row["label_bytes"] for row in rows if row["protocol"] == "rded-soft"} == {"12000"}


@pytest.mark.parametrize("name", ["summary.md", "summary.html"])
def test_both_texts_carry_every_part(made, name):
    text = (made / name).read_text()
    for part in (
        "failed (1 of 6)",
        "the loss is nan at epoch 3 of 30",
        "held-out real images",
        "as papers report",
        "resnetap10, rded-soft, best on test",
        "61.9 ± 0.6 (ManifoldGD, Table 1)",
        "higher of hard and soft",
        "(rded-soft)",
        "resnetap10, LRS",
        "resnetap10, ARS",
        "12.0",
        "p (Holm)",
        "mean rank",
        "500",
    ):
        assert part in text, part
    assert "nan " not in text.replace("the loss is nan at", "")
    assert "dit − random" not in text.split("resnetap10, rded-soft")[0]  # no pair of a failed cell under the first protocol


def test_the_page_shows_every_protocols_classes_and_the_storage(made):
    text = (made / "summary.html").read_text()
    for protocol in KINDS:
        assert f"<summary>resnetap10, {protocol}</summary>" in text.split("<h2>Accuracy by class")[1]
    assert "Storage, kB" in text
    assert "soft labels of the first protocol that has any" in text


def test_the_spec_names_protocols_and_what_papers_call_each_row():
    base = yaml.safe_load((ROOT / "config.yaml").read_text())
    base["run"]["protocols"] = ["tiny-hard", "smoke"]
    spec = json.loads(Plan(base).spec("report", {"dataset": "fashion-mini", "ipc": "10"}))
    assert spec["protocols"] == ["tiny-hard", "smoke"]
    assert spec["protocol_kinds"] == {"tiny-hard": ["hard", True], "smoke": ["hard", False]}
    found = {name: row["paper"] for name, row in spec["rows"].items()}
    assert (found["full"], found["subset"], found["mgd"], found["manifoldgd_expected"]) == ("full", "random", "mgd", "manifoldgd")
    assert (found["im"], found["s3"], found["ims3"]) == ("", "", "ims3")


def test_the_page_needs_no_other_file_and_runs_no_script_but_its_own(made):
    for page in (made / "summary.html", made.parent / "summary.html"):
        text, found = page.read_text(), Elements(page)
        assert len(found.all("script")) == 1
        assert found.handlers() == []
        assert "default-src 'none'" in found.all("meta")[2]["content"]
        assert all(attributes["src"].startswith("data:image/") for attributes in found.all("img"))
        assert not re.search(r"url\((?!data:|#)", text)
        assert not {"iframe", "object", "embed"} & {tag for tag, _ in found.found}
        assert "http://" not in text.replace("http://www.w3.org/", "")


def test_class_and_machine_names_are_text(made):
    text, found = (made / "summary.html").read_text(), Elements(made / "summary.html")
    assert CLASSES[1] in found.text
    assert "m<1>" in found.text
    assert "r<i>ght" not in text
    assert [each["alt"] for each in found.all("img") if each["alt"].startswith("mgd")][-1] == f"mgd, {CLASSES[1]}, 3"


def test_links_to_artifacts_lead_to_them(made):
    for page in (made / "summary.html", made.parent / "summary.html"):
        hrefs = [each["href"] for each in Elements(page).all("a")]
        outside = {href for href in hrefs if not href.startswith("#") and not href.endswith("/images/")}
        assert len(outside) > 1 if page.parent != made else len(outside) > 3 * len(ROWS)
        missing = [href for href in outside if not (page.parent / href).exists()]
        assert [href for href in missing if "ipc50" not in href] == []
        ids = {attributes["id"] for _, attributes in Elements(page).found if "id" in attributes}
        assert {href[1:] for href in hrefs if href.startswith("#")} <= ids


def test_what_belongs_to_a_row_says_so(made):
    found = Elements(made / "summary.html").found
    marked = [(tag, attributes["data-row"]) for tag, attributes in found if "data-row" in attributes]
    assert {name for _, rows in marked for name in rows.split()} == set(ROWS)
    assert {tag for tag, _ in marked} >= {"tr", "figure", "g", "details", "td"}
    assert ("tr", "dit random") in marked  # a pair
    lines = [attributes for tag, attributes in found if tag == "tr" and "class" in attributes]
    assert {each["data-row"] for each in lines} == {"full", "subset"}
    storage = (made / "summary.html").read_text().split("<h2>Storage")[1].split("</table>")[0]
    assert re.findall(r'<tr data-row="(\w+)"', storage) == [row for row in ROWS if row != "full"]


def test_the_plane_has_prototypes_where_a_row_has_any_and_images_where_they_are(made):
    text = (made / "summary.html").read_text()
    section = text.split('id="prototypes"')[1].split("<details>")[0]
    crosses = {row: part.count('class="crosses"') for row, part in rows_of(section).items()}
    dots = {row: part.count('class="dots"') for row, part in rows_of(section).items()}
    assert crosses == {"subset": 0, "random": 2, "mgd": 2, "dit": 0}
    assert set(dots.values()) == {2}


def rows_of(section):
    parts = re.split(r'<tr data-row="([^"]+)"', section)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_confusions_are_shares_of_each_class(made):
    text = Elements(made / "summary.html").text
    assert "40.0 % " + CLASSES[1] + " → left" in text
    assert "20.0 % left → " + CLASSES[1] in text
    section = (made / "summary.html").read_text().split(f"Confusion of {STUDENT}, minimax-hard-256")[1].split("</section>")[0]
    assert 'data-row="mgd"' in section
    assert 'data-row="dit"' not in section  # one of its trainings failed


def test_published_numbers_stand_in_the_first_table(made):
    first = (made / "summary.html").read_text().split("</table>")[0]
    assert "61.9 ± 0.6 (ManifoldGD, Table 1)" in first


def test_the_page_over_ipcs_has_a_line_per_row_and_a_curve_per_protocol(made):
    page = made.parent / "summary.html"
    text = page.read_text()
    assert text.count("<svg") == len(KINDS)
    line = text.split('<tr data-row="dit">')[1].split("</tr>")[0]
    assert "failed (1 of 6)" in line
    assert "<td>–</td>" in line  # no dit at IPC 50
    assert {"ipc10/summary.html", "ipc50/summary.html"} <= {each["href"] for each in Elements(page).all("a")}


def test_the_same_results_make_the_same_bytes(made, tmp_path):
    again = make_pages(tmp_path)
    for name in ("summary.html", "summary.md", "summary.csv", "grid.png", "../summary.html"):
        assert (made / name).read_bytes() == (again / name).read_bytes(), name


def test_a_matrix_that_no_training_kept_is_left_out(tmp_path, monkeypatch):
    spec, read = make_spec(tmp_path), report.read_json

    def without(path, schema):
        found = read(path, schema)
        for repeat in found.get("repeats", []):
            repeat["confusion"] = None
        return found

    monkeypatch.setattr(report, "read_json", without)
    report.run(json.loads(json.dumps(spec)), tmp_path / "imagenette/ipc10")
    assert "Confusion of" not in (tmp_path / "imagenette/ipc10/summary.html").read_text()
