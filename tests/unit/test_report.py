import csv
import io
import math

import numpy as np
import pytest
from scipy import stats

from limbeck.report.grid import method_strip, montage
from limbeck.report.statistics import paired, summarise
from limbeck.report.table import Row, differences, every_metric, to_csv, to_markdown

A = {0: [0.70, 0.72], 1: [0.75, 0.73], 2: [0.71, 0.74]}
B = {0: [0.68, 0.71], 1: [0.71, 0.72], 2: [0.70, 0.70]}


def test_spreads_are_kept_apart():
    s = summarise(A, 2000)
    means, pooled = [np.mean(v) for v in A.values()], [x for v in A.values() for x in v]
    assert s.mean == pytest.approx(np.mean(pooled))
    assert s.sd == pytest.approx(np.std(pooled, ddof=1))
    assert s.sd_seed == pytest.approx(np.std(means, ddof=1))
    assert s.sd_repeat == pytest.approx(math.sqrt(np.mean([np.var(v, ddof=1) for v in A.values()])))
    assert s.binomial == pytest.approx(math.sqrt(s.mean * (1 - s.mean) / 2000))
    single = summarise({0: [0.5]}, 100)
    assert math.isnan(single.sd)
    assert math.isnan(single.sd_repeat)


def test_paired_difference_is_scipys_paired_t_test():
    found = paired(A, B)
    a, b = ([np.mean(x[s]) for s in range(3)] for x in (A, B))
    test = stats.ttest_rel(a, b)
    low, high = test.confidence_interval(0.95)
    assert (found.difference - found.half_width, found.difference + found.half_width) == pytest.approx((low, high))
    assert found.resolved == (test.pvalue < 0.05)
    assert paired(A, {7: [0.1]}) is None


def row(name: str, accuracies: dict, reference: bool = False) -> Row:
    metrics = {f"{m}_teacher": 0.5 for m in ("fd", "l2", "mmd", "rep_class", "div_class", "agreement")}
    return Row(name, "p", reference, 20, {"s": accuracies}, {"s": summarise(accuracies, 100)}, metrics, "{}")


def test_tables_hold_the_numbers():
    rows = [row("full", {0: [0.9]}, True), row("mgd", A), row("dit", B)]
    table = list(csv.DictReader(io.StringIO(to_csv(rows, "tiny-hard"))))
    assert [line["method"] for line in table] == ["full", "mgd", "dit"]
    assert float(table[1]["accuracy"]) == pytest.approx(summarise(A, 100).mean, abs=1e-6)
    assert table[0]["sd"] == ""
    text = to_markdown(rows, ["s"], "teacher")
    assert "| real training set | 20 | 90.0 ± – |" in text
    assert "| mgd | 20 | 72.5 ±" in text
    assert [(a, b) for a, b, _ in differences(rows, "s")] == [("dit", "mgd")]


def test_strip_has_classes_as_columns():
    images = np.stack([np.full((4, 4, 1), v, np.uint8) for v in (1, 2, 3, 4)])
    strip = method_strip(images, np.array([0, 0, 1, 1]), 2)
    assert strip[[0, 0, 5, 5], [0, 5, 0, 5], 0].tolist() == [1, 3, 2, 4]
    assert montage(images, 3).shape == (9, 14, 1)


def test_a_metric_that_is_undefined_is_a_dash_and_a_blank_and_inceptions_distance_is_a_fid():
    made = row("mgd", A)
    metrics = {"fid_i": 31.25, "l2_i": 1.0, "mmd_i": math.nan, "rep_class_i": 0.5, "div_class_i": math.nan}
    made = Row(made.name, made.prior, False, 20, made.accuracies, made.summary, metrics, "{}")
    cells = to_markdown([made], ["s"], "i").splitlines()[-1].split("|")[-7:-1]
    assert [cell.strip() for cell in cells] == ["31.25", "1.00", "–", "0.500", "–", "–"]  # it classifies nothing either
    line = next(csv.DictReader(io.StringIO(to_csv([made], "tiny-hard"))))
    assert [line[name] for name in ("fid_i", "mmd_i")] == ["31.25", ""]
    assert dict(every_metric([made]))["mmd_i"] == ["–"]
