"""DD-Ranking's scores against their formulas written out, and the papers' numbers against what can be known of them."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from limbeck.errors import LimbeckError
from limbeck.methods import FULL, METHODS
from limbeck.protocols import PROTOCOLS
from limbeck.report.ddranking import ars, highest, lrs
from limbeck.report.published import TUNED, by_cell, lookup, name_of, papers
from limbeck.report.published import table as table_of
from limbeck.students.registry import STUDENTS

CONFIGS = Path(__file__).parents[2] / "workflow/configs"
KINDS = {"a-hard": ("hard", True), "b-soft": ("soft", True), "a-plain": ("hard", False)}
share = st.floats(0, 1)


def normal(x):
    return 100 * (math.exp(x) - math.exp(-1)) / (math.exp(1) - math.exp(-1))


@given(share, share, share, share, share)
def test_lrs_is_its_formula_and_stays_in_bounds(hard, soft, full, random_hard, random_soft):
    own, random = {"a-hard": hard, "b-soft": soft}, {"a-hard": random_hard, "b-soft": random_soft}
    found = lrs(own, {"a-hard": full, "b-soft": 1.0}, random, KINDS)
    improvement = hard - random_hard if hard >= soft else soft - random_soft
    assert found == pytest.approx(normal(0.5 * improvement - 0.5 * (full - hard)))
    assert 0 <= found <= 100


@given(share, share, share, share)
def test_ars_is_its_formula_and_stays_in_bounds(augmented, plain, random_augmented, random_plain):
    own, random = {"a-hard": augmented, "a-plain": plain}, {"a-hard": random_augmented, "a-plain": random_plain}
    found = ars(own, random, KINDS)
    assert found == pytest.approx(normal(0.5 * (augmented - random_augmented) + 0.5 * (plain - random_plain)))
    assert 0 <= found <= 100


def test_known_values():
    same = {"a-hard": 0.7, "a-plain": 0.4}
    assert lrs(same, same, same, KINDS) == pytest.approx(26.894, abs=1e-3)  # nothing gained, nothing lost
    assert lrs({"a-hard": 1}, {"a-hard": 0}, {"a-hard": 0}, KINDS) == pytest.approx(100)
    assert lrs({"a-hard": 0}, {"a-hard": 1}, {"a-hard": 1}, KINDS) == pytest.approx(0)
    assert lrs({"a-hard": 0.6}, {"a-hard": 0.9}, {"a-hard": 0.5}, KINDS) == pytest.approx(normal(-0.1))
    assert ars(same, same, KINDS) == pytest.approx(26.894, abs=1e-3)


def test_scores_need_their_rows_and_protocols():
    own = {"a-hard": 0.6, "b-soft": 0.7}
    assert lrs(own, {}, own, KINDS) is None
    assert lrs(own, own, {}, KINDS) is None
    assert lrs({"b-soft": 0.7}, own, own, KINDS) is None  # its hard cell failed
    assert lrs(own, own, own, {"b-soft": ("soft", True)}) is None
    assert ars(own, own, KINDS) is None
    assert ars({"b-soft": 0.7, "a-plain": 0.5}, {"b-soft": 0.6, "a-plain": 0.5}, KINDS) is None  # of different labels
    assert highest(own, KINDS) == (0.7, "b-soft")
    assert highest(own, {"a-hard": ("hard", True)}) is None
    assert highest({}, KINDS) is None


def test_published_numbers_are_plausible_and_unique():
    known = (
        {path.stem for path in CONFIGS.glob("*.yaml") if "datasets" in yaml.safe_load(path.read_text())},
        {"1", "10", "20", "50", "70", "100"},
        set(PROTOCOLS),
        set(STUDENTS),
        {*METHODS, *TUNED.values(), FULL},
    )
    for values, found in zip(known, zip(*by_cell(), strict=True), strict=True):
        assert set(found) <= values
    assert sum(map(len, by_cell().values())) == 778
    chance = {"imagenet1k": 0.1, "imagenet100": 1, "tiny_imagenet": 0.5, "cifar100": 1}
    for (dataset, _, protocol, student, _), numbers in by_cell().items():
        assert len({number.source for number in numbers}) == len(numbers)
        for number in numbers:
            assert 2 * chance.get(dataset, 5) < float(number.accuracy) < 100
            assert number.sd == "" or 0 <= float(number.sd) < 5
        # batch norms under soft labels, affine instance norms under hard ones
        assert ("soft" in protocol) or student not in ("resnet18", "resnet101")
        assert ("soft" not in protocol) or student not in ("resnet18-in", "resnetap10", "convnet6")
        # CIFAR is trained longer by D3HR, ImageNet at 224 pixels by RDED
        if protocol.startswith("d3hr-soft"):
            assert protocol.endswith(("-400", "-1000")) == dataset.startswith("cifar")
        if protocol.startswith("rded-soft"):
            assert protocol.endswith("-224") == dataset.startswith("image")


TABLES = [(paper, table) for paper, tables in papers().items() for table in tables.values()]


def test_the_papers_tables_are_whole():
    assert {(paper, table.name) for paper, table in TABLES if not table.omitted} == {
        tuple(path.stem.split("-")) for path in (CONFIGS / "papers").glob("*.yaml")
    }
    for _, table in TABLES:
        assert bool(table.omitted) != bool(table.numbers)
        assert len(set(table.columns)) == len(table.columns)
        assert len(set(table.rows)) == len(table.rows)
        for number in table.numbers:
            assert not number.value or 0 < float(number.value) < 100
            assert not number.sd or 0 <= float(number.sd) < 10


@pytest.mark.parametrize(
    ("paper", "name", "said"),
    [
        ("snark", "table1", "papers/snark/table1: no such table; known: coda, d3hr, ims3, manifoldgd, patches"),
        ("coda", "figure99", "papers/coda/figure99: no such table; known: table1, "),
        ("ims3", "table9", "papers/ims3/table9: minutes of the authors' machine"),
    ],
)
def test_a_table_that_is_not_here_says_why(paper, name, said):
    with pytest.raises(LimbeckError) as error:
        table_of(paper, name)
    assert str(error.value).startswith(said)


def test_published_numbers_are_found_by_their_cell():
    found = lookup("imagenette", 10, "minimax-hard-256", "resnetap10", "manifoldgd")
    assert [str(each) for each in found] == ["64.1 ± 1.2 (ManifoldGD, Table 1)"]
    assert [str(each) for each in lookup("imagenet1k", 50, "d3hr-soft", "resnet18", "d4m")] == ["55.2 (D3HR, Table 1)"]
    assert not lookup("imagenette", 11, "minimax-hard-256", "resnetap10", "manifoldgd")
    assert len(lookup("imagenet1k", 10, "rded-soft-224", "resnet18", "patches")) == 2  # mosaics and single patches


@pytest.mark.parametrize(
    ("base", "criterion", "name"),
    [
        ("mgd", "diffusion", "mgd"),
        ("subset", "diffusion", "random"),
        ("dit", "minimax", "minimax"),
        ("ims3", "inversion_matching", "ims3"),
        ("ims3", "diffusion", ""),  # its choice alone is not the paper's method
        ("dit", "inversion_matching", ""),
        ("mgd", "minimax", ""),
    ],
)
def test_what_papers_call_a_method(base, criterion, name):
    assert name_of(base, criterion) == name
