"""Pseudo-labels from a share of the labels: the class of the nearest centre, where it is near enough (CoDA A.15, Table 23)."""

import numpy as np

from limbeck.seeds import stream

BLOCK = 1000  # images whose cosines to every centre are in memory at once


def labelled_count(n: int, share: float) -> int:
    """How many of a class's n images have their label: the share, rounded, but at least one."""
    return max(1, round(share * n))


def labelled_rows(n: int, share: float, seed: int, class_id: int) -> np.ndarray:
    """Rows of a class's n images whose labels are known, ascending; a larger share adds to a smaller one's."""
    return np.sort(stream(seed, "label", class_id).permutation(n)[: labelled_count(n, share)])


def centre(features: np.ndarray) -> np.ndarray:
    """The normalised mean (D,) float64 of the L2-normalised features (N, D) of a class's labelled images."""
    return _normalised(_normalised(features).mean(axis=0))


def nearest_class(features: np.ndarray, centres: np.ndarray, threshold: float) -> np.ndarray:
    """The row (N,) of the centre (C, D) with the highest cosine to each of the features (N, D); -1 below ``threshold``.

    Of equal cosines the first row wins; features without a direction have cosine 0 to everything.
    """
    found = np.empty(len(features), np.int64)
    for start in range(0, len(features), BLOCK):
        cosines = _normalised(features[start : start + BLOCK]) @ centres.T
        found[start : start + BLOCK] = np.where(cosines.max(axis=1) >= threshold, cosines.argmax(axis=1), -1)
    return found


def _normalised(vectors: np.ndarray) -> np.ndarray:
    """Vectors of length 1 in float64; zeros stay zeros."""
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)
