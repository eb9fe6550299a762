"""The papers' own numbers, one file per paper beside this: every table as it is printed, and which cell of ours each number is.

A table has ``columns`` and ``rows``, each with its printed name and *where*: a mapping, or a text that says why it is no cell of
ours ("" for a method that is not here). A mapping has of dataset, ipc, method, protocol (of several the higher accuracy counts),
student (of several their mean), prior (which a run has one of) and class (its place) what the row or column says; ``cells`` has
what all share. A text in braces takes its parts from the others: method = "{guidance}_{kernel}". ``as``, with an optional ``note``,
is what ``lookup`` calls the method; ``why`` says of such a number that it is no cell of ours. ``except`` has single places and why
they are none; ``[omitted]`` tables and figures whose numbers are not here.

ASSUME: ManifoldGD and CoDA train at 256 pixels under minimax-hard, as their texts say; the rows that IMS3 quotes from others stand
under its own protocol, as in its tables; RDED's numbers on ImageNet and its subsets are of 224 pixels, as it trains there; D3HR's
"ConvNetW128" is ConvNet-3.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from limbeck.errors import LimbeckError

FILES = sorted(Path(__file__).parent.glob("*.toml"))
NOT_HERE = "a method that Limbeck does not have"
# what a method on a prior tuned by a criterion is called; any other such pair is no row of a paper
TUNED = {("dit", "minimax"): "minimax", ("ims3", "inversion_matching"): "ims3"}


@dataclass(frozen=True)
class Published:
    """An accuracy in percent with its standard deviation ("" where the paper gives none), and the table it stands in."""

    accuracy: str
    sd: str
    source: str

    def __str__(self) -> str:
        return f"{self.accuracy}{f' ± {self.sd}' if self.sd else ''} ({self.source})"


@dataclass(frozen=True)
class Number:
    """A printed number with its spread (both "" where the table has a dash), its cell, and why that is none of ours, or ""."""

    row: str
    column: str
    value: str
    sd: str
    where: Mapping[str, Any]
    why: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a paper, accuracies in percent. ``omitted``: why its numbers are not here, or ""."""

    paper: str
    name: str
    caption: str
    columns: Sequence[str]
    rows: Sequence[str]
    numbers: Sequence[Number]
    omitted: str

    @property
    def title(self) -> str:
        """Table 1, Figure 8."""
        kind = "Figure" if self.name.startswith("figure") else "Table"
        return f"{kind} {self.name.removeprefix(kind.lower())}"


@cache
def papers() -> dict[str, dict[str, Table]]:
    """Paper (as files and targets name it) -> its tables by name."""
    found = {}
    for path in FILES:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        paper = read.pop("paper")
        omitted = {name: Table(paper, name, "", [], [], [], why) for name, why in read.pop("omitted", {}).items()}
        found[path.stem] = {name: _table(paper, name, content) for name, content in read.items()} | omitted
    return found


def table(paper: str, name: str) -> Table:
    """One of them.

    Raises
    ------
    LimbeckError: there is none, or its numbers are not here.
    """
    known = papers()
    if paper not in known or name not in known[paper]:
        raise LimbeckError(f"papers/{paper}/{name}: no such table; known: {', '.join(known.get(paper, known))}")
    found = known[paper][name]
    if found.omitted:
        raise LimbeckError(f"papers/{paper}/{name}: {found.omitted}")
    return found


def _table(paper: str, name: str, content: Mapping[str, Any]) -> Table:
    shared, numbers = content.get("cells", {}), []
    excepted = {(row, column): why for row, column, why in content.get("except", [])}
    columns, rows = content.get("columns", []), content.get("rows", [])
    for row, of_row, printed in rows:
        for (column, of_column), text in zip(columns, printed.split(), strict=True):
            value, _, sd = text.replace("-", "", text == "-").partition("±")
            where, why = _where(shared, of_row, of_column)
            numbers.append(Number(row, column, value, sd, where, excepted.get((row, column), why)))
    return Table(paper, name, content["caption"], [column for column, _ in columns], [row for row, *_ in rows], numbers, "")


def _where(*parts: Mapping[str, Any] | str) -> tuple[dict[str, Any], str]:
    """Their keys together, the later over the earlier, or none; and what says that it is no cell of ours."""
    found: dict[str, Any] = {}
    for part in parts:
        if isinstance(part, str):
            return {}, part or NOT_HERE
        found |= part
    why = found.pop("why", "")
    return found | {key: value.format(**found) for key, value in found.items() if isinstance(value, str)}, why


def name_of(base: str, criterion: str) -> str:
    """What papers call a method: its base, unless its prior is tuned by a criterion other than the diffusion loss; or ""."""
    if base == "ims3" or criterion != "diffusion":
        return TUNED.get((base, criterion), "")
    return "random" if base == "subset" else base


def listed(value: Any) -> list[Any]:
    """One or several as a list."""
    return value if isinstance(value, list) else [value]


@cache
def by_cell() -> dict[tuple[str, ...], list[Published]]:
    """(dataset, ipc, protocol, student, method) -> the papers' accuracies under the papers' own settings."""
    found: dict[tuple[str, ...], list[Published]] = {}
    for each in (table for tables in papers().values() for table in tables.values()):
        for number in each.numbers:
            if "as" not in number.where or not number.value:
                continue
            where = number.where
            key = (where["dataset"], str(where["ipc"]), listed(where["protocol"])[0], where["student"], where["as"])
            source = f"{each.paper}, {each.title}{f', {note}' if (note := where.get('note')) else ''}"
            found.setdefault(key, []).append(Published(number.value, number.sd, source))
    return found


def lookup(dataset: str, ipc: int, protocol: str, student: str, method: str) -> Sequence[Published]:
    """The papers' numbers for a cell; none where no paper has it."""
    return by_cell().get((dataset, str(ipc), protocol, student, method), [])
