"""Draw the embedded benchmark fashion-mini from Fashion-MNIST: 10 classes x (500 train + 200 test), seeded.

    python workflow/scripts/draw_fashion_mini.py [IDX_FOLDER]

Writes src/limbeck/data/fashion_mini.npz with the indices of the drawn images in the source.
"""

import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np

from limbeck.config import Dataset
from limbeck.data.sources.arrays import IdxSource
from limbeck.seeds import stream

SEED = 2026
PER_CLASS = {"train": 500, "test": 200}
OUT = Path(__file__).parents[2] / "src/limbeck/data/fashion_mini.npz"


def draw(folder: str) -> dict[str, np.ndarray]:
    """The arrays of the npz, class-major, source indices ascending within a class."""
    source = IdxSource("fashion_mnist", Dataset(source="idx", path=folder, channels=1))
    arrays: dict[str, np.ndarray] = {"classes": np.array(source.classes)}
    for split, count in PER_CLASS.items():
        labels = source.labels(split)
        chosen = [
            np.sort(stream(SEED, f"fashion-mini.{split}", c).choice(np.flatnonzero(labels == c), count, replace=False))
            for c in range(len(source.classes))
        ]
        ids = np.concatenate(chosen)
        arrays[f"{split}_images"] = np.stack([source.raw(split, i) for i in ids])
        arrays[f"{split}_labels"] = labels[ids].astype(np.uint8)
        arrays[f"{split}_ids"] = ids.astype(np.int32)
    return arrays


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """A compressed npz with fixed dates: the same draw gives the same bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, array in arrays.items():
            buffer = BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


if __name__ == "__main__":
    save(OUT, draw(sys.argv[1] if len(sys.argv) > 1 else "/usr/share/datasets/fashion-mnist"))
    print(f"{OUT}: {OUT.stat().st_size / 1e6:.2f} MB")
