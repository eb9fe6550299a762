"""Herding: real images whose mean follows the class's (Welling 2009; iCaRL, Rebuffi et al. 2017, Alg. 4).

Unlike iCaRL's, the features are not normalised. No image is taken twice.
"""

import numpy as np

from limbeck.discovery.base import Found, Options, Pool
from limbeck.discovery.coreset import Cover, squares


def discover(pool: Pool, ipc: int, options: Options, seed: int, class_id: int) -> Found:  # noqa: ARG001
    """Greedily ``ipc`` images, in the order taken: a smaller IPC's are the first of a larger one's.

    Raises
    ------
    ValueError: no latents, or fewer images than ``ipc``.
    """
    cover = Cover(pool, ipc)
    for row in herd(cover.points, ipc):
        cover.choose(row)
    return cover.found()


def herd(points: np.ndarray, ipc: int) -> list[int]:
    """Rows of points (N, m) with mean 0, each the unused one for which the mean of all taken is nearest to 0.

    With s the sum of those taken before x, the mean's square is that of s + x but for a factor, so x has the least
    |x|^2 + 2 x.s, the score. Equal ones: the lowest row.
    """
    rows: list[int] = []
    score = squares(points)
    for _ in range(ipc):
        rows.append(int(np.argmin(score)))
        # not by BLAS, which may round equal rows differently
        score += 2 * np.einsum("nd,d->n", points, points[rows[-1]])
        score[rows[-1]] = np.inf
    return rows
