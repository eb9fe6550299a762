"""The papers' own accuracies (published.csv), by the names that a config gives: a dataset ``imagenette``, a student ``convnet6``.

Transcribed from ManifoldGD (Tables 1, 2, 10), CoDA (Tables 1, 2, 4, 6, 7, 11, 17), IMS3 (Tables 1-3, 5), D3HR (Tables 1, 5, A6) and
diffusion-driven patch selection (Tables 1, 2): the rows whose method is one of ``methods.METHODS``, and minimax (``dit`` on a prior
so tuned). ASSUME: ManifoldGD and CoDA train at 256 pixels under minimax-hard, as their texts say; the rows that IMS3 quotes from
others stand under its own protocol, as in its tables; RDED's numbers on ImageNet and its subsets are of 224 pixels, as it trains
there; D3HR's "ConvNetW128" is ConvNet-3.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "published.csv"
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


def name_of(base: str, criterion: str) -> str:
    """What papers call a method: its base, unless its prior is tuned by a criterion other than the diffusion loss; or ""."""
    if base == "ims3" or criterion != "diffusion":
        return TUNED.get((base, criterion), "")
    return "random" if base == "subset" else base


@cache
def table() -> dict[tuple[str, ...], list[Published]]:
    """(dataset, ipc, protocol, student, method) -> the papers' numbers."""
    found: dict[tuple[str, ...], list[Published]] = {}
    with FILE.open(encoding="utf-8", newline="") as lines:
        for *key, accuracy, sd, source in list(csv.reader(lines))[1:]:
            found.setdefault(tuple(key), []).append(Published(accuracy, sd, source))
    return found


def lookup(dataset: str, ipc: int, protocol: str, student: str, method: str) -> Sequence[Published]:
    """The papers' numbers for a cell; none where no paper has it."""
    return table().get((dataset, str(ipc), protocol, student, method), [])
