"""The field's benchmarks as data: which classes, in which order, and what ImageNet calls them.

A member of a benchmark is a WordNet id, or the class's own name where it is not of ImageNet. The order is the benchmark's own:
ImageWoof's is not that of its folders' names, so that a reader who sorts them permutes the labels unnoticed.
"""

import functools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

FOLDER = Path(__file__).parent / "class_lists"
IMAGENET = "imagenet1k"
# The one text that ImageNet gives to two classes; with a second synonym both have a name, and a prompt, of their own.
TWICE = {"n02012849": "crane, wading bird", "n03126707": "crane, lifting machine"}


@functools.cache
def imagenet() -> tuple[tuple[str, str], ...]:
    """(wnid, text) of ImageNet-1K's classes by index; a text is comma-separated synonyms."""
    lines = (FOLDER / "imagenet1k.tsv").read_text(encoding="utf-8").splitlines()[1:]
    return tuple((wnid, text) for _, wnid, text in (line.split("\t") for line in lines))


@functools.cache
def lists() -> dict[str, tuple[str, ...]]:
    """Benchmark -> its members in canonical order."""
    named = json.loads((FOLDER / "benchmarks.json").read_text(encoding="utf-8"))
    return {**{name: tuple(members) for name, members in named.items()}, IMAGENET: tuple(wnid for wnid, _ in imagenet())}


def members(classes: str | Sequence[str]) -> tuple[str, ...]:
    """A benchmark's members by its name; a list of classes as it is.

    Raises
    ------
    ValueError: no such benchmark.
    """
    if not isinstance(classes, str):
        return tuple(classes)
    if classes not in lists():
        raise ValueError(f"no benchmark {classes!r}; known: {', '.join(lists())}, or give a list of class names")
    return lists()[classes]


@functools.cache
def _by_wnid() -> dict[str, int]:
    return {wnid: index for index, (wnid, _) in enumerate(imagenet())}


@functools.cache
def _by_name() -> dict[str, str]:
    return {class_name(wnid): wnid for wnid, _ in imagenet()}


def class_name(member: str) -> str:
    """What a member is called: ImageNet's text of a WordNet id, its own name otherwise."""
    index = _by_wnid().get(member)
    return member if index is None else TWICE.get(member, imagenet()[index][1])


def wnid(name: str) -> str | None:
    """The WordNet id of a class that :func:`class_name` has named; None for a class not of ImageNet-1K."""
    return _by_name().get(name)


def index(wnid: str | None) -> int | None:
    """ImageNet-1K's index of a WordNet id."""
    return None if wnid is None else _by_wnid().get(wnid)


def canonical(found: Iterable[str]) -> tuple[str, ...]:
    """Members in the order of the benchmark that has exactly these; sorted where none has."""
    names = sorted(found)
    return next((order for order in lists().values() if sorted(order) == names), tuple(names))


def _first(text: str) -> str:
    return text.split(",")[0].strip().lower()


def called(wanted: str, names: Sequence[str]) -> str | None:
    """The one of a source's names that means a class, asked for by its WordNet id or its name: that name, ImageNet's text, or
    the only name with the same first synonym ("tench" for "tench, Tinca tinca"); None where there is none, or several.
    """
    for name in (wanted, class_name(wanted)):
        if name in names:
            return name
    alike = [name for name in names if _first(name) == _first(class_name(wanted))]
    return alike[0] if len(alike) == 1 else None


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of a source's classes by index, none of them twice: ImageNet-1K's as here, others that are by their index.

    ImageNet-1K is known by its number of classes and nine in ten first synonyms: copies differ in how they tell the cranes apart.
    """
    pairs = list(zip(names, (text for _, text in imagenet()), strict=False))
    if len(names) == len(imagenet()) and sum(_first(name) == _first(text) for name, text in pairs) >= 0.9 * len(names):
        return tuple(class_name(wnid) for wnid, _ in imagenet())
    return tuple(f"{name} ({i})" if list(names).count(name) > 1 else name for i, name in enumerate(names))
