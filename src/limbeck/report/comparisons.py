"""Every pair of rows over their shared seeds, and who wins against whom over all protocols and students of a table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.methods import FULL
from limbeck.report.cells import Column, percent
from limbeck.report.statistics import LEVEL, Paired, holm, mean_ranks, paired
from limbeck.report.table import Row, Table, label, markdown

LISTED = 66  # pairs that a text can list whole: those of 12 rows


@dataclass(frozen=True)
class Comparison:
    """Row a minus row b; holm: its p-value corrected for all pairs of its protocol and student."""

    a: str
    b: str
    paired: Paired
    holm: float

    @property
    def verdict(self) -> str:
        """Whether it is resolved, and whether it still is after the correction."""
        return ("yes, corrected" if self.holm < LEVEL else "yes") if self.paired.resolved else "no"


def compare(rows: Sequence[Row], column: Column) -> list[Comparison]:
    """Every pair of rows that share two seeds; a row of which a training failed has none."""
    found = []
    for i, a in enumerate(rows):
        for b in rows[:i]:
            pair = paired(a.cells[column].accuracies, b.cells[column].accuracies)
            if pair is not None:
                found.append((label(a), label(b), pair))
    corrected = holm([pair.p for *_, pair in found])
    return [Comparison(*pair, p) for pair, p in zip(found, corrected, strict=True)]


def difference_table(pairs: Sequence[Comparison]) -> Table:
    """In points."""
    headings = ["difference", "points (95 %)", "p", "p (Holm)", "effect d", "seeds", "resolved"]
    lines = []
    for each in pairs:
        d = each.paired
        effect = "–" if math.isnan(d.effect) else f"{d.effect:+.1f}"
        lines.append([f"{each.a} − {each.b}", points(d), _p(d.p), _p(each.holm), effect, str(d.seeds), each.verdict])
    return Table(headings, lines)


def points(d: Paired) -> str:
    """The difference and its interval's half width, in points."""
    return f"{100 * d.difference:+.1f} ± {percent(d.half_width)}"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}" if value >= 0.0005 else "<0.001"


def differences_markdown(pairs: Sequence[Comparison]) -> str:
    """The table; of more than ``LISTED`` pairs the resolved ones alone."""
    listed = pairs if len(pairs) <= LISTED else [pair for pair in pairs if pair.paired.resolved]
    left = f"\nThe other {len(pairs) - len(listed)} of {len(pairs)} pairs are not resolved.\n" if len(listed) < len(pairs) else ""
    return markdown(difference_table(listed)) + left


@dataclass(frozen=True)
class Score:
    """Of how many cells that two rows share one is better (a resolved difference), neither, or the other."""

    wins: int = 0
    ties: int = 0
    losses: int = 0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.wins + other.wins, self.ties + other.ties, self.losses + other.losses)

    def __str__(self) -> str:
        return f"{self.wins}/{self.ties}/{self.losses}"


def win_table(compared: Sequence[Sequence[Comparison]]) -> dict[tuple[str, str], Score]:
    """(a, b) -> a against b over the cells, each given as all its pairs. Both orders stand in it."""
    out: dict[tuple[str, str], Score] = {}
    for each in (pair for pairs in compared for pair in pairs):
        won = each.paired.resolved and each.paired.difference > 0
        lost = each.paired.resolved and not won
        tied = not each.paired.resolved
        for key, score in (((each.a, each.b), Score(won, tied, lost)), ((each.b, each.a), Score(lost, tied, won))):
            out[key] = out.get(key, Score()) + score
    return out


def standings(rows: Sequence[Row], compared: Mapping[Column, Sequence[Comparison]]) -> Table:
    """Every row's mean rank over the cells, its score against all others, and against each; the best first. Empty without pairs."""
    score = win_table(list(compared.values()))
    if not score:
        return Table([], [])
    ranked = [row for row in rows if row.name != FULL]  # the whole training set has no seeds to pair
    ranks = mean_ranks([[row.cells[column].mean for row in ranked] for column in compared])
    order = sorted(zip(ranks, map(label, ranked), strict=True))
    lines = []
    for rank, name in order:
        against = [score.get((name, other)) for _, other in order]
        total = sum((each for each in against if each), Score())
        lines.append([name, f"{rank:.1f}", str(total), *(str(each) if each else "–" for each in against)])
    return Table(["method", "mean rank", "all", *(name for _, name in order)], lines)


def standings_markdown(table: Table) -> str:
    """The table; without its columns of single opponents where those are too many to read."""
    few = len(table.lines) * (len(table.lines) - 1) // 2 <= LISTED
    return markdown(table if few else Table(table.headings[:3], [line[:3] for line in table.lines]))
