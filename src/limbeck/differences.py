"""Why two artifacts differ: what ``limbeck diff`` prints."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.records import SUFFIX, read_result, read_sidecar, sidecar_of
from limbeck.store import Artifact

ABSENT = "absent"
# what a sidecar has that says how a job went, not why its result is what it is
MEASURED = ("seconds", "cpu_seconds", "start_cpu_seconds", "peak_mb", "finished", "outputs", "checksum", "spec", "inputs")
Lines = Iterator[tuple[str, str, str]]  # what, of the one, of the other


def differences(one: Path, other: Path) -> list[tuple[str, str, str]]:
    """(what, in the one, in the other) of everything in which two artifacts, or two JSON results, differ; none if in nothing.

    Raises
    ------
    LimbeckError: a file is missing or damaged, or they are of different kinds.
    """
    if one.name.endswith(SUFFIX) != other.name.endswith(SUFFIX):
        raise LimbeckError(f"{one} and {other} are of different kinds; give two {SUFFIX} or two JSON results")
    found = _arrays(one, other) if one.name.endswith(SUFFIX) else _results(one, other)
    return [*found, *_made(one, other)]


def _arrays(one: Path, other: Path) -> Lines:
    with Artifact(one) as a, Artifact(other) as b:
        yield from _nested("", a.attrs, b.attrs)
        for name in sorted({*a.group, *b.group}):
            if name not in a or name not in b:
                yield name, *(str(each.shape(name)) if name in each else ABSENT for each in (a, b))
            elif a.shape(name) != b.shape(name):
                yield f"{name}, shape", str(a.shape(name)), str(b.shape(name))
            elif (rows := _rows(a[name], b[name])) is not None:
                yield f"{name}, values", *rows


def _rows(a: np.ndarray, b: np.ndarray) -> tuple[str, str] | None:
    """In how many rows two arrays of one shape differ, and by how much at most."""
    if np.array_equal(a, b):
        return None
    differ = (a != b).reshape(len(a), -1).any(axis=1)
    most = np.abs(a.astype(np.float64) - b.astype(np.float64)).max()
    return f"{differ.sum()} of {len(a)} rows differ, the first is {differ.argmax()}", f"by at most {most:.4g}"


def _results(one: Path, other: Path) -> Lines:
    bodies = (read_result(path) for path in (one, other))
    yield from _nested("", *({key: value for key, value in body.items() if key != "checksum"} for body in bodies))


def _made(one: Path, other: Path) -> Lines:
    """How they were made, by the sidecars: other sources, another machine, another version of a library."""
    abouts = [read_sidecar(sidecar_of(path)) if sidecar_of(path).is_file() else {} for path in (one, other)]
    if all(abouts):
        kept = ({key: value for key, value in about.items() if key not in MEASURED} for about in abouts)
        yield from _nested("made: ", *kept)


def _nested(where: str, a: Any, b: Any) -> Lines:
    """The places at which two values of JSON differ."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            inner = f"{where}{'' if not where or where.endswith(' ') else '.'}{key}"
            yield from _nested(inner, a.get(key, ABSENT), b.get(key, ABSENT))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, pair in enumerate(zip(a, b, strict=True)):
            yield from _nested(f"{where}[{number}]", *pair)
    elif a != b:
        yield where, _short(a), _short(b)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 60 else f"{text[:57]}…"
