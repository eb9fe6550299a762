"""The tables from results as the stages write them."""

import csv
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.report.cells import cell, outcome
from limbeck.report.comparisons import (
    LISTED,
    compare,
    difference_table,
    differences_markdown,
    standings,
    standings_markdown,
    win_table,
)
from limbeck.report.grid import method_strip, montage
from limbeck.report.statistics import summarise
from limbeck.report.table import CSV_COLUMNS, SHOWN, Row, every_metric, further_table, main_table, markdown, to_csv

A = {0: [0.70, 0.72], 1: [0.75, 0.73], 2: [0.71, 0.74]}
B = {0: [0.68, 0.71], 1: [0.71, 0.72], 2: [0.70, 0.70]}
HARD, SOFT, PLAIN = ("tiny-hard", "s"), ("rded-soft", "s"), ("tiny-plain", "s")
KINDS = {"tiny-hard": ("hard", True), "rded-soft": ("soft", True), "tiny-plain": ("hard", False)}
ONE = {"tiny-hard": ("hard", True)}


def results(accuracies, failed=(), picked=True, labels=None):
    """Seed -> result file, with accuracies at other epochs one and two points higher; ``failed`` are (seed, repeat)."""

    def repeat(seed, number, value):
        if (seed, number) in failed:
            reason = "the loss is nan at epoch 3 of 30"
            empty = dict.fromkeys(("accuracy", "per_class", "confusion", "selected", "best"))
            return {"repeat": number, "curve": [], "failed": reason} | empty
        other = {"epoch": 2, "accuracy": value + 0.01, "held_out": 0.8} if picked else None
        best = {"epoch": 1, "accuracy": value + 0.02} if picked else None
        own = {"repeat": number, "accuracy": value, "per_class": [value - 0.1, value + 0.1], "confusion": None}
        return {**own, "selected": other, "best": best, "curve": [], "failed": None}

    return {
        seed: {
            "repeats": [repeat(seed, number, value) for number, value in enumerate(values)],
            **{"train_images": 20, "test_images": 100, "held_out_images": 10, "labels": labels or {"kind": "hard"}},
        }
        for seed, values in accuracies.items()
    }


def row(name, cells, reference=False, paper="", metric=0.5):
    metrics = {f"{m}_teacher": metric for m, *_ in SHOWN}
    return Row(name, "p", reference, 20, {column: cell(found) for column, found in cells.items()}, metrics, "{}", paper)


def plain(name, accuracies, **options):
    return row(name, {HARD: results(accuracies)}, **options)


def lines(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_a_cell_has_three_accuracies():
    found = cell(results(A))
    assert found.last == summarise(A, 100)
    assert found.selected.mean == pytest.approx(found.mean + 0.01)
    assert found.best.mean == pytest.approx(found.mean + 0.02)
    assert found.best.sd == pytest.approx(found.last.sd)
    values = [x for v in A.values() for x in v]
    assert found.per_class[1] == pytest.approx((np.mean(values) + 0.1, np.std(values, ddof=1)))
    assert (found.seeds, found.repeats) == (3, 2)
    assert cell(results(A, picked=False)).best is None


def test_a_failed_training_is_never_averaged():
    found = cell(results(A, failed=[(1, 0)]))
    assert outcome(found) == "failed (1 of 6)"
    assert found.last is found.selected is found.best is None
    rows = [plain("a", A), row("b", {HARD: results(B, failed=[(1, 0)])}), plain("c", B)]
    assert [(each.a, each.b) for each in compare(rows, HARD)] == [("c", "a")]
    assert "| b | 20 | failed (1 of 6) | – | – |" in markdown(main_table(rows, [HARD], "teacher", "fashion-mini", 10))
    line = lines(to_csv(rows, ONE))[1]
    assert (line["accuracy"], line["best_on_test"], line["failed"]) == ("", "", "1")
    assert line["failure"] == "seed 1, repeat 0: the loss is nan at epoch 3 of 30"
    table = standings(rows, {HARD: compare(rows, HARD)})
    assert [line[:2] for line in table.lines] == [["a", "1.0"], ["c", "2.0"], ["b", "3.0"]]
    assert table.lines[2][2:] == ["0/0/0", "–", "–", "–"]


def test_tables_hold_the_numbers():
    rows = [row("full", {HARD: results({0: [0.9]})}, True), plain("mgd", A), plain("dit", B)]
    found = lines(to_csv(rows, ONE))
    assert [line["method"] for line in found] == ["full", "mgd", "dit"]
    a = summarise(A, 100)
    assert float(found[1]["accuracy"]) == pytest.approx(a.mean, abs=1e-6)
    assert float(found[1]["selected"]) == pytest.approx(a.mean + 0.01, abs=1e-6)
    assert float(found[1]["best_on_test_sd"]) == pytest.approx(a.sd, abs=1e-6)
    assert (found[1]["failed"], found[1]["labels"], found[1]["test_images"]) == ("0", "hard", "100")
    assert found[0]["sd"] == found[0]["lrs"] == ""
    assert tuple(found[0])[: len(CSV_COLUMNS)] == CSV_COLUMNS
    text = markdown(main_table(rows, [HARD], "teacher", "fashion-mini", 10))
    assert "s accuracy %" in text
    assert "| real training set | 20 | 90.0 ± – |" in text
    assert "| mgd | 20 | 72.5 ±" in text
    assert [(each.a, each.b) for each in compare(rows, HARD)] == [("dit", "mgd")]


@pytest.mark.parametrize("missing", [None, math.nan])
def test_undefined_metrics_are_left_blank(missing):
    rows = [plain("a", A, metric=missing)]
    assert markdown(main_table(rows, [HARD], "teacher", "fashion-mini", 10)).endswith("| – | – | – | – | – | – |\n")
    assert lines(to_csv(rows, ONE))[0]["fd_teacher"] == ""


def several(name, hard, soft, plainly, reference=False):
    labels = {"kind": "soft", "teacher": "t", "bytes": 1000}
    cells = {HARD: results(hard), SOFT: results(soft, labels=labels), PLAIN: results(plainly)}
    return row(name, cells, reference)


def test_scores_and_the_higher_of_hard_and_soft():
    rows = [
        several("full", {0: [0.9]}, {0: [0.95]}, {0: [0.8]}, True),
        several("subset", {0: [0.5], 1: [0.7]}, {0: [0.65], 1: [0.65]}, {0: [0.4], 1: [0.4]}, True),
        several("mgd", {0: [0.7], 1: [0.7]}, {0: [0.8], 1: [0.7]}, {0: [0.5], 1: [0.5]}),
    ]
    normal = lambda x: 100 * (math.exp(x) - math.exp(-1)) / (math.e - math.exp(-1))  # noqa: E731
    found = lines(to_csv(rows, KINDS))
    assert [float(line["lrs"] or -1) for line in found[6:]] == pytest.approx([normal(0.5 * 0.1 - 0.5 * 0.2)] * 3, abs=1e-4)
    assert float(found[6]["ars"]) == pytest.approx(normal(0.5 * 0.1 + 0.5 * 0.1), abs=1e-4)
    assert found[0]["lrs"] == ""
    assert [line["label_bytes"] for line in found[6:]] == ["", "1000", ""]
    table = further_table(rows, [HARD, SOFT, PLAIN], KINDS)
    by_name = dict(zip(table.headings, table.lines[2], strict=True))
    assert by_name["s, higher of hard and soft"] == "75.0 (rded-soft)"
    assert by_name["s, LRS"] == f"{normal(-0.05):.1f}"
    assert by_name["s, rded-soft, best on test"] == "77.0 ± 7.1"
    assert not any("published" in name for name in table.headings)


def test_published_numbers_stand_beside_their_cell():
    column = ("minimax-hard-256", "resnetap10")
    rows = [row("mine", {column: results(A)}, paper="manifoldgd"), row("other", {column: results(A)})]
    table = main_table(rows, [column], "teacher", "imagenette", 10)
    assert table.headings[5] == "resnetap10, published"
    assert [line[5] for line in table.lines] == ["64.1 ± 1.2 (ManifoldGD, Table 1)", "–"]


def test_columns_without_anything_are_left_out():
    rows = [row("a", {HARD: results(A, picked=False)})]
    assert further_table(rows, [HARD], ONE).headings == ["method"]


def shifted(points):
    """Like A with a clear difference: its spread over seeds is small beside it."""
    return {s: [x + points / 100 + 0.001 * s for x in v] for s, v in A.items()}


def test_wins_are_resolved_differences():
    rows = [plain("full", {0: [0.9]}, reference=True), plain("a", A), plain("b", shifted(5)), plain("c", shifted(5.1))]
    pairs = compare(rows, HARD)
    score = win_table([pairs, pairs])
    assert str(score["b", "a"]) == "2/0/0"
    assert str(score["a", "b"]) == "0/0/2"
    table = standings(rows, {HARD: pairs})
    assert table.headings == ["method", "mean rank", "all", "c", "b", "a"]
    assert table.lines[2] == ["a", "3.0", "0/0/2", "0/0/1", "0/0/1", "–"]
    assert {each.verdict for each in pairs if "a" in (each.a, each.b)} == {"yes, corrected"}
    assert difference_table(pairs).lines[0][:2] == ["b − a", "+5.1 ± 0.2"]
    assert standings(rows[:2], {}).lines == []


accuracies = st.lists(st.integers(0, 90).map(lambda hits: [hits / 100]), min_size=3, max_size=3).map(lambda v: dict(enumerate(v)))


@given(st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=4))
def test_the_win_table_is_antisymmetric(found):
    rows = [row(str(i), {HARD: results(hard), SOFT: results(soft)}) for i, (hard, soft) in enumerate(found)]
    score = win_table([compare(rows, column) for column in (HARD, SOFT)])
    for (a, b), one in score.items():
        other = score[b, a]
        assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
        assert one.wins + one.ties + one.losses == 2


def test_long_lists_are_cut_in_markdown():
    rows = [plain(f"m{i}", {s: [x + (0.1 + s / 1000 if i == 12 else 0) for x in v] for s, v in A.items()}) for i in range(13)]
    pairs = compare(rows, HARD)
    assert len(pairs) > LISTED
    text = differences_markdown(pairs)
    assert "The other 66 of 78 pairs are not resolved." in text
    assert "| m1 − m0 |" not in text
    short = standings_markdown(standings(rows, {HARD: pairs}))
    assert short.splitlines()[0] == "| method | mean rank | all |"


def test_strip_has_classes_as_columns():
    images = np.stack([np.full((4, 4, 1), v, np.uint8) for v in (1, 2, 3, 4)])
    strip = method_strip(images, np.array([0, 0, 1, 1]), 2)
    assert strip[[0, 0, 5, 5], [0, 5, 0, 5], 0].tolist() == [1, 3, 2, 4]
    assert montage(images, 3).shape == (9, 14, 1)


def test_a_metric_that_is_undefined_is_a_dash_and_a_blank_and_inceptions_distance_is_a_fid():
    metrics = {"fid_i": 31.25, "l2_i": 1.0, "mmd_i": math.nan, "rep_class_i": 0.5, "div_class_i": math.nan}
    made = replace(plain("mgd", A), metrics=metrics)
    assert main_table([made], [HARD], "i", "fashion-mini", 10).lines[0][-6:] == [
        "31.25",
        "1.00",
        "–",
        "0.500",
        "–",
        "–",
    ]  # it classifies nothing either
    (line,) = lines(to_csv([made], ONE))
    assert [line[name] for name in ("fid_i", "mmd_i")] == ["31.25", ""]
    assert ["mmd_i", "–"] in every_metric([made]).lines
