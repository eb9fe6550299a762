"""The summary table as csv, markdown and terminal text."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from limbeck.report.statistics import Accuracy, Paired, paired

# metric, heading, digits; lower or higher is better
SHOWN = (
    ("fd", "FD ↓", 2),
    ("l2", "L2 ↓", 2),
    ("mmd", "MMD ↓", 4),
    ("rep_class", "Rep ↑", 3),
    ("div_class", "Div ↑", 3),
    ("agreement", "agree", 3),
)

LISTED = 66  # pairs that a text can list whole: those of 12 rows
# accuracy and its spreads are fractions; the metrics' names follow
CSV_COLUMNS: tuple[str, ...] = (
    *("method", "reference", "prior", "images", "protocol", "student", "seeds", "repeats"),
    *("accuracy", "sd", "sd_seed", "sd_repeat", "binomial_se"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table. ``reference`` rows are not methods; accuracies: student -> seed -> repeats."""

    name: str
    prior: str
    reference: bool
    images: int
    accuracies: Mapping[str, Mapping[int, Sequence[float]]]
    summary: Mapping[str, Accuracy]
    metrics: Mapping[str, float]
    options: str


def label(row: Row) -> str:
    """The row's name as printed."""
    return {"full": "real training set", "subset": "real subset, same size"}.get(row.name, row.name) if row.reference else row.name


def percent(value: float) -> str:
    """A fraction as a percentage with one digit; an undefined spread as a dash."""
    return "–" if math.isnan(value) else f"{100 * value:.1f}"


def cells(row: Row, students: Sequence[str], extractor: str) -> list[str]:
    """The row's printed cells, in the order of :func:`headings`."""
    out = [label(row), str(row.images)]
    for student in students:
        accuracy = row.summary[student]
        out += [f"{percent(accuracy.mean)} ± {percent(accuracy.sd)}", percent(accuracy.sd_seed), percent(accuracy.sd_repeat)]
    return out + [_metric(row, name, extractor, digits) for name, _, digits in SHOWN]


def _metric(row: Row, name: str, extractor: str, digits: int) -> str:
    """A metric as printed; a dash where it is undefined, or the extractor has none of that name."""
    fid = row.metrics.get(f"fid_{extractor}", math.nan) if name == "fd" else math.nan
    value = row.metrics.get(f"{name}_{extractor}", fid)
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def every_metric(rows: Sequence[Row]) -> list[tuple[str, list[str]]]:
    """(name, value of every row) of all metrics of all extractors."""
    values = ((name, [row.metrics[name] for row in rows]) for name in sorted(rows[0].metrics))
    return [(name, ["–" if math.isnan(value) else f"{value:.4g}" for value in found]) for name, found in values]


def headings(students: Sequence[str]) -> list[str]:
    """Column titles."""
    out = ["method", "images"]
    for student in students:
        out += [f"{student} accuracy %", "sd seeds", "sd repeats"]
    return out + [title for _, title, _ in SHOWN]


def to_csv(rows: Sequence[Row], protocol: str) -> str:
    """One line per row and student, every number in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = sorted(rows[0].metrics)
    writer.writerow([*CSV_COLUMNS, *names])
    for row in rows:
        for student, a in row.summary.items():
            spread = ["" if math.isnan(x) else f"{x:.6f}" for x in (a.sd, a.sd_seed, a.sd_repeat)]
            fixed = [row.name, int(row.reference), row.prior, row.images, protocol, student, a.seeds, a.repeats]
            values = ["" if math.isnan(row.metrics[name]) else f"{row.metrics[name]:.6g}" for name in names]
            writer.writerow([*fixed, f"{a.mean:.6f}", *spread, f"{a.binomial:.6f}", *values])
    return text.getvalue()


def to_markdown(rows: Sequence[Row], students: Sequence[str], extractor: str) -> str:
    """The table in GitHub's markdown."""
    lines = [headings(students), ["---"] + ["--:"] * (len(headings(students)) - 1)]
    lines += [cells(row, students, extractor) for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def differences(rows: Sequence[Row], student: str) -> list[tuple[str, str, Paired]]:
    """Every pair of methods over their shared seeds."""
    out = []
    for i, a in enumerate(rows):
        for b in rows[:i]:
            found = paired(a.accuracies[student], b.accuracies[student])
            if found is not None:
                out.append((label(a), label(b), found))
    return out


def differences_markdown(pairs: Sequence[tuple[str, str, Paired]]) -> str:
    """Paired differences in points, with what is resolved; of more than ``LISTED`` the resolved ones alone."""
    listed = pairs if len(pairs) <= LISTED else [pair for pair in pairs if pair[2].resolved]
    lines = ["| difference | points (95 %) | seeds | resolved |", "| --- | --: | --: | --- |"]
    for a, b, d in listed:
        text = f"{100 * d.difference:+.1f} ± {100 * d.half_width:.1f}"
        lines.append(f"| {a} − {b} | {text} | {d.seeds} | {'yes' if d.resolved else 'no'} |")
    left = f"\nThe other {len(pairs) - len(listed)} of {len(pairs)} pairs are not resolved.\n" if len(listed) < len(pairs) else ""
    return "\n".join(lines) + "\n" + left
