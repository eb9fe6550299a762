"""What a kernel's benchmark is made of."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

SEED = 0
Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """ours, reference: two ways to the same result. of: what the reference is. agree: whether both results are one. flop: None, to
    be counted while torch works. moved: bytes read and written at the least. double: whether it computes in float64.
    """

    ours: Run
    reference: Run
    of: str
    agree: Callable[[Any, Any], bool]
    flop: float | None = 0.0
    moved: float = 0.0
    double: bool = False


@dataclass(frozen=True)
class Kernel:
    """make: of sizes by name. sizes: those of the comparison. grown: the others that each takes in turn."""

    make: Callable[..., Case]
    sizes: Mapping[str, int]
    grown: Mapping[str, tuple[int, ...]]


def close(a: Any, b: Any, tolerance: float = 1e-4) -> bool:
    """Whether arrays are one to ``tolerance``, relative or absolute."""
    return bool(np.allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance))
