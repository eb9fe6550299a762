"""Class lists against facts known of the benchmarks, and classes found in a prior of ImageNet."""

import pytest

from limbeck.config import Dataset
from limbeck.data import benchmarks
from limbeck.errors import LimbeckError
from limbeck.priors.files import known_classes, match_classes
from limbeck.priors.prompts import prompts

# ImageNet's own indices, as fast.ai and the papers give them
IMAGENETTE = {"tench": 0, "English springer": 217, "cassette player": 482, "chain saw": 491, "church": 497, "French horn": 566}
IMAGENETTE |= {"garbage truck": 569, "gas pump": 571, "golf ball": 574, "parachute": 701}
IMAGEWOOF = (193, 182, 258, 162, 155, 167, 159, 273, 207, 229)  # australian terrier, border terrier, samoyed, beagle, …
DIT = {i: text for i, (_, text) in enumerate(benchmarks.imagenet())}


def test_sizes_and_that_no_class_is_there_twice():
    sizes = {name: len(members) for name, members in benchmarks.lists().items()}
    assert {n for name, n in sizes.items() if name not in ("imagenet100", "imagenet1k")} == {10}
    assert (sizes["imagenet100"], sizes["imagenet1k"]) == (100, 1000)
    for members in benchmarks.lists().values():
        assert len({benchmarks.class_name(member) for member in members}) == len(members)


def test_indices_and_orders():
    found = [benchmarks.index(wnid) for wnid in benchmarks.members("imagewoof")]
    assert tuple(found) == IMAGEWOOF
    assert found != sorted(found)
    names = [benchmarks.class_name(wnid).split(",")[0] for wnid in benchmarks.members("imagenette")]
    assert {name: benchmarks.index(wnid) for name, wnid in zip(names, benchmarks.members("imagenette"), strict=True)} == IMAGENETTE
    assert benchmarks.canonical(sorted(benchmarks.members("imagewoof"))) == benchmarks.members("imagewoof")
    assert benchmarks.canonical(["b", "a"]) == ("a", "b")


def test_every_imagenet_class_finds_its_own_label_in_a_dit_of_imagenet():
    names = [benchmarks.class_name(wnid) for wnid in benchmarks.members("imagenet1k")]
    assert len(set(names)) == 1000
    assert match_classes(DIT, names, "dit") == list(range(1000))  # two of the prior's are "crane"
    assert [benchmarks.wnid(name) for name in names] == list(benchmarks.members("imagenet1k"))


def test_synonyms_find_a_class_unless_several_are_called_so():
    assert match_classes(DIT, ["Tinca tinca", "goldfish"], "dit") == [0, 1]
    with pytest.raises(LimbeckError, match=r"1000 classes but not 'crane' \(several of its classes are called so\)"):
        match_classes(DIT, ["crane"], "dit")
    assert known_classes(DIT, ["crane", "tench", "snark"]) == {"tench": 0}
    # a prior of other classes that has ImageNet's index 0 for something else
    assert match_classes({0: "cat", 1: "tench, Tinca tinca"}, ["tench, Tinca tinca"], "own") == [1]
    assert match_classes({0: "cat", 5: "dog"}, ["dog"], "own") == [5]


def test_prompts_of_every_benchmark_are_distinct():
    for name in benchmarks.lists():
        texts = prompts([benchmarks.class_name(member) for member in benchmarks.members(name)])
        assert len(set(texts)) == len(texts)
        assert not any("_" in text for text in texts)
    assert prompts(["crane, wading bird", "crane, lifting machine"], "a {name}") == [
        "a crane, wading bird",
        "a crane, lifting machine",
    ]


def test_unknown_benchmarks_are_one_line():
    with pytest.raises(ValueError, match=r"no benchmark 'imagewuff'; known: imagenette, imagewoof, .*imagenet1k"):
        Dataset(source="folder", path="x", classes="imagewuff")


def test_names_that_are_there_twice_are_told_apart():
    texts = [text for _, text in benchmarks.imagenet()]
    assert benchmarks.told_apart(texts) == tuple(benchmarks.class_name(wnid) for wnid, _ in benchmarks.imagenet())
    assert benchmarks.told_apart(["a", "b", "a"]) == ("a (0)", "b", "a (2)")
