"""Miniatures of the published data sets, in their layouts: folders by WordNet id, CIFAR's two versions, Tiny-ImageNet, Places365.

Every class has colours of its own (:func:`picture`), so that a small classifier learns them in seconds.
"""

import hashlib
import io
import pickle
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# as its archive names them; the fine classes that the miniature has, and what each belongs to
CIFAR100 = {"apple": "fruit_and_vegetables", "aquarium_fish": "fish", "baby": "people", "bear": "large_carnivores"}


def picture(name: str, number: int, height: int, width: int) -> np.ndarray:
    """(height, width, 3) uint8: the 2×2 colours of the class ``name``, with the noise of its image ``number``."""
    digest = hashlib.sha256(name.encode()).digest()
    colours = np.frombuffer(digest[:12], np.uint8).reshape(2, 2, 3)
    rows, columns = (np.arange(n) * 2 // n for n in (height, width))
    rng = np.random.default_rng([number, *digest])
    noisy = colours[np.ix_(rows, columns)] + rng.normal(0, 12, (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95)


def folders(
    root: Path, members: Iterable[str], train: int, test: int = 1, split: str = "val", size: tuple[int, int] = (36, 44)
) -> Path:
    """``root``/{train,``split``}/<member>/<member>_<number>.JPEG, members by WordNet id or name: ImageNet, fast.ai, Places365."""
    for member in members:
        for folder, numbers in (("train", range(train)), (split, range(train, train + test))):
            for number in numbers:
                _save(root / folder / member / f"{member}_{number}.JPEG", picture(member, number, *size))
    return root


def tiny_imagenet(root: Path, wnids: Sequence[str], train: int, val: int = 1, words: dict[str, str] | None = None) -> Path:
    """``root``/{wnids.txt, words.txt, train/<wnid>/images, val/{images, val_annotations.txt}, test/images}; words.txt has more."""
    lines = []
    for place, wnid in enumerate(wnids):
        for number in range(train):
            _save(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", picture(wnid, number, 64, 64))
        boxes = [f"{wnid}_{number}.JPEG\t0\t0\t63\t63\n" for number in range(train)]
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("".join(boxes))
        for number in range(val):  # in another order than the classes
            file = f"val_{number * len(wnids) + len(wnids) - 1 - place}.JPEG"
            _save(root / "val/images" / file, picture(wnid, train + number, 64, 64))
            lines.append(f"{file}\t{wnid}\t0\t0\t63\t63\n")
    _save(root / "test/images/test_0.JPEG", picture("nobody knows", 0, 64, 64))
    (root / "val/val_annotations.txt").write_text("".join(sorted(lines)))
    (root / "wnids.txt").write_text("".join(f"{wnid}\n" for wnid in wnids))
    named = {"n00001740": "entity", **dict.fromkeys(wnids, "something"), **(words or {})}
    (root / "words.txt").write_text("".join(f"{wnid}\t{text}\n" for wnid, text in sorted(named.items())))
    return root


class _Python2(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Protocol 2 as Python 2 wrote it for CIFAR: strings are byte strings, and NumPy's modules have their old names."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_bytes(self, value: bytes) -> None:
        if len(value) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(value)]) + value)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(value)) + value)
        self.memoize(value)

    def save_str(self, value: str) -> None:
        self.save_bytes(value.encode())

    dispatch[bytes] = save_bytes
    dispatch[str] = save_str


def python2_pickle(value: object) -> bytes:
    """``value`` as Python 2 and NumPy 1 would have pickled it."""
    out = io.BytesIO()
    _Python2(out, 2).dump(value)
    return out.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def _rows(name: str, numbers: Iterable[int]) -> np.ndarray:
    """(N, 3072) uint8: a class's images as CIFAR has them, red, green and blue planes."""
    return np.stack([picture(name, number, 32, 32).transpose(2, 0, 1).reshape(-1) for number in numbers])


def _shuffled(classes: Sequence[str], numbers: range, seed: int) -> tuple[np.ndarray, list[int]]:
    """Rows and labels of a file, classes mixed as the published ones are."""
    rows = np.concatenate([_rows(name, numbers) for name in classes])
    labels = np.repeat(np.arange(len(classes)), len(numbers))
    order = np.random.default_rng(seed).permutation(len(labels))
    return rows[order], [int(label) for label in labels[order]]


def cifar10(root: Path, per_batch: int, test: int = 1, binary: bool = False) -> Path:
    """CIFAR-10: five training files of ``per_batch`` images per class each, one of ``test``, and the names."""
    root.mkdir(parents=True, exist_ok=True)
    numbers = {f"data_batch_{n + 1}": range(n * per_batch, (n + 1) * per_batch) for n in range(5)}
    numbers["test_batch"] = range(5 * per_batch, 5 * per_batch + test)
    for seed, (file, those) in enumerate(numbers.items()):
        rows, labels = _shuffled(CIFAR10, those, seed)
        if binary:
            (root / f"{file}.bin").write_bytes(np.column_stack([np.array(labels, np.uint8), rows]).tobytes())
        else:
            about = {"batch_label": file, "labels": labels, "data": rows, "filenames": [f"{i}.png" for i in range(len(labels))]}
            (root / file).write_bytes(python2_pickle(about))
    if binary:
        (root / "batches.meta.txt").write_text("".join(f"{name}\n" for name in CIFAR10) + "\n")
    else:
        about = {"num_cases_per_batch": 10 * per_batch, "label_names": list(CIFAR10), "num_vis": 3072}
        (root / "batches.meta").write_bytes(python2_pickle(about))
    return root


def cifar100(root: Path, train: int, test: int = 1, binary: bool = False) -> Path:
    """CIFAR-100's files with a few of its fine classes."""
    root.mkdir(parents=True, exist_ok=True)
    fine, coarse = list(CIFAR100), sorted(set(CIFAR100.values()))
    for seed, (file, numbers) in enumerate({"train": range(train), "test": range(train, train + test)}.items()):
        rows, labels = _shuffled(fine, numbers, seed)
        above = [coarse.index(CIFAR100[fine[label]]) for label in labels]
        if binary:
            (root / f"{file}.bin").write_bytes(np.column_stack([np.array([above, labels], np.uint8).T, rows]).tobytes())
        else:
            about = {"filenames": [f"{i}.png" for i in range(len(labels))], "batch_label": f"{file} batch 1 of 1"}
            (root / file).write_bytes(python2_pickle(about | {"fine_labels": labels, "coarse_labels": above, "data": rows}))
    names = {"fine_label_names": fine, "coarse_label_names": coarse}
    if binary:
        for key, each in names.items():
            (root / f"{key}.txt").write_text("".join(f"{name}\n" for name in each))
    else:
        (root / "meta").write_bytes(python2_pickle(names))
    return root
