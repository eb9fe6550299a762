"""Where images come from: an npz file, the four idx files of MNIST-like sets, or a folder per class.

A source knows its classes and counts without decoding anything; images are decoded one at a time.
"""

import gzip
import zipfile
import zlib
from abc import ABC, abstractmethod
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np

from limbeck.config import Dataset
from limbeck.errors import LimbeckError

SPLITS = ("train", "test")
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def package_path(path: str) -> Path:
    """A configured path; ``package:NAME`` is a file or folder beside this module."""
    if path.startswith("package:"):
        return Path(__file__).parent / path.removeprefix("package:")
    return Path(path).expanduser()


def local_folder(weights: str) -> Path | None:
    """The folder that ``weights`` names; None for a hub name."""
    local = weights.startswith(("/", ".", "~", "package:")) or Path(weights).exists()
    return package_path(weights) if local else None


def image_files(folder: Path) -> list[Path]:
    """A folder's images by name; other files are left out."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)


def decode(path: Path) -> np.ndarray:
    """An image file as (H, W) or (H, W, 3) uint8.

    Raises
    ------
    ValueError: it cannot be decoded; the message names it.
    """
    from PIL import Image

    try:
        with Image.open(path) as file:
            grey = file.mode in ("L", "1")
            return np.asarray(file.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot decode {path} ({error}); repair or remove the file") from None


class Source(ABC):
    """A labelled image set. ``labels(split)`` fixes the order of its images."""

    def __init__(self, name: str, spec: Dataset):
        self.name = name
        self.path = package_path(spec.path)
        self.wanted = spec.classes

    def fail(self, what: str) -> LimbeckError:
        """An error that names the dataset."""
        return LimbeckError(f"datasets.{self.name}: {what}")

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """Class names in canonical order."""

    @abstractmethod
    def labels(self, split: str) -> np.ndarray:
        """(N,) int64 class index of every image of a split."""

    @abstractmethod
    def image(self, split: str, index: int) -> np.ndarray:
        """One decoded image, (H, W) or (H, W, 3) uint8."""

    def size(self, split: str, index: int) -> tuple[int, int]:
        """(height, width) of an image."""
        height, width = self.image(split, index).shape[:2]
        return height, width

    @abstractmethod
    def source_id(self, split: str, index: int) -> str:
        """Where that image came from, for people."""

    def stamp(self) -> str:
        """Changes when files were added to, removed from or replaced in the source; no file is opened."""
        return str(self.path.stat().st_mtime_ns)

    def counts(self, split: str) -> np.ndarray:
        """(C,) images per class; a class without images is an error."""
        counts = np.bincount(self.labels(split), minlength=len(self.classes))
        for name, count in zip(self.classes, counts, strict=True):
            if count == 0:
                raise self.fail(f"class {name!r} has no {split} images in {self.path}")
        return counts


class ArraySource(Source):
    """Images stored as one array per split. Labels are read at once, images when the first is asked for."""

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        self._labels: dict[str, np.ndarray] = {}
        self._images: dict[str, np.ndarray] = {}
        self._ids: dict[str, np.ndarray] = {}
        self._classes: tuple[str, ...] = ()

    @abstractmethod
    def _read_images(self, split: str) -> np.ndarray:
        """The split's images (N, H, W) or (N, H, W, 3)."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.wanted or self._classes

    def _check_labels(self) -> None:
        for split, labels in self._labels.items():
            if len(labels) == 0 or labels.max() >= len(self.classes):
                raise self.fail(f"{self.path}: {split} has {len(labels)} images and labels beyond its {len(self.classes)} classes")

    def labels(self, split: str) -> np.ndarray:
        return self._labels[split]

    def image(self, split: str, index: int) -> np.ndarray:
        if split not in self._images:
            self._images[split] = self._read_images(split)
            if len(self._images[split]) != len(self._labels[split]):
                raise self.fail(f"{self.path}: {split} has {len(self._images[split])} images but {len(self._labels[split])} labels")
        return self._images[split][index]

    def source_id(self, split: str, index: int) -> str:
        return str(self._ids[split][index])


class NpzSource(ArraySource):
    """One npz: ``{train,test}_images``, ``{train,test}_labels``, ``{train,test}_ids`` (optional) and ``classes``."""

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        try:
            with np.load(self.path, allow_pickle=False) as file:
                self._classes = tuple(map(str, file["classes"]))
                for split in SPLITS:
                    self._labels[split] = file[f"{split}_labels"].astype(np.int64)
                    self._ids[split] = file[f"{split}_ids"] if f"{split}_ids" in file else np.arange(len(self._labels[split]))
        except FileNotFoundError:
            raise self.fail(f"no file {self.path}") from None
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise self.fail(f"{self.path} is not the expected npz ({error})") from None
        self._check_labels()

    def _read_images(self, split: str) -> np.ndarray:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                return file[f"{split}_images"]
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise self.fail(f"{self.path} is not the expected npz ({error})") from None


class IdxSource(ArraySource):
    """A folder with the four idx files of MNIST and its relatives, gzipped or not."""

    files: ClassVar = {"train": "train", "test": "t10k"}

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        for split, stem in self.files.items():
            self._find(f"{stem}-images-idx3-ubyte")
            self._labels[split] = self._read(f"{stem}-labels-idx1-ubyte", 1).astype(np.int64)
            self._ids[split] = np.arange(len(self._labels[split]))
        highest = max(int(labels.max(initial=0)) for labels in self._labels.values())
        self._classes = FASHION_CLASSES if "fashion" in str(self.path) else tuple(map(str, range(highest + 1)))
        self._check_labels()

    def _read_images(self, split: str) -> np.ndarray:
        return self._read(f"{self.files[split]}-images-idx3-ubyte", 3)

    def _find(self, stem: str) -> Path:
        for path in (self.path / f"{stem}.gz", self.path / stem):
            if path.is_file():
                return path
        raise self.fail(
            f"no {stem}[.gz] in {self.path}; install Debian's package dataset-fashion-mnist, or set datasets.{self.name}.path "
            "to a folder with the four idx files"
        )

    def _read(self, stem: str, ndim: int) -> np.ndarray:
        path = self._find(stem)
        try:
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            header = np.frombuffer(data, ">i4", 1 + ndim)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise self.fail(f"{path} is damaged ({error})") from None
        if header[0] != 0x0800 + ndim or len(data) != 4 * (1 + ndim) + np.prod(header[1:], dtype=np.int64):
            raise self.fail(f"{path} is not an idx file of {ndim} dimensions, or it is cut short")
        return np.frombuffer(data, np.uint8, offset=4 * (1 + ndim)).reshape(header[1:])


class FolderSource(Source):
    """``<path>/{train,test}/<class>/<image>``. Without ``classes`` the order is that of the sorted folder names."""

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        self._found: dict[str, tuple[np.ndarray, list[Path]]] = {}
        for split in SPLITS:
            if not (self.path / split).is_dir():
                raise self.fail(f"no folder {self.path / split}; expected {self.path}/{{train,test}}/<class>/<image>")
        self._classes = tuple(sorted(p.name for p in (self.path / "train").iterdir() if p.is_dir()))
        if not self.classes:
            raise self.fail(f"no class folders in {self.path / 'train'}")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.wanted or self._classes

    def stamp(self) -> str:
        # a folder's own time changes when an entry is added or removed; editing a file in place goes unnoticed
        return " ".join(str((self.path / split / name).stat().st_mtime_ns) for split in SPLITS for name in self.classes)

    def _scan(self, split: str) -> tuple[np.ndarray, list[Path]]:
        if split not in self._found:
            labels, paths = [], []
            for label, name in enumerate(self.classes):
                folder = self.path / split / name
                if not folder.is_dir():
                    raise self.fail(f"class {name!r} has no folder {folder}")
                found = image_files(folder)
                labels += [label] * len(found)
                paths += found
            self._found[split] = (np.array(labels, np.int64), paths)
        return self._found[split]

    def labels(self, split: str) -> np.ndarray:
        return self._scan(split)[0]

    def image(self, split: str, index: int) -> np.ndarray:
        try:
            return decode(self._scan(split)[1][index])
        except ValueError as error:
            raise self.fail(str(error)) from None

    def size(self, split: str, index: int) -> tuple[int, int]:
        from PIL import Image

        path = self._scan(split)[1][index]
        try:
            with Image.open(path) as file:  # the header alone
                return file.height, file.width
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise self.fail(f"cannot decode {path} ({error}); repair or remove the file") from None

    def source_id(self, split: str, index: int) -> str:
        return str(self._scan(split)[1][index].relative_to(self.path / split))


class Subset(Source):
    """Some classes of another source, in an order of their own, and their images class by class."""

    def __init__(self, name: str, spec: Dataset, parent: Source):
        super().__init__(name, spec)
        self.path, self._parent = parent.path, parent
        for wanted in self.classes:
            if wanted not in parent.classes:
                more = f" and {len(parent.classes) - 20} more" if len(parent.classes) > 20 else ""
                raise LimbeckError(
                    f"datasets.{name}.classes: {spec.of} has no class {wanted!r}; known: {', '.join(parent.classes[:20])}{more}"
                )

    @property
    def classes(self) -> tuple[str, ...]:
        return self.wanted or ()

    def _rows(self, split: str) -> list[np.ndarray]:
        labels = self._parent.labels(split)
        return [np.flatnonzero(labels == self._parent.classes.index(name)) for name in self.classes]

    def labels(self, split: str) -> np.ndarray:
        return np.repeat(np.arange(len(self.classes)), [len(rows) for rows in self._rows(split)])

    def image(self, split: str, index: int) -> np.ndarray:
        return self._parent.image(split, int(np.concatenate(self._rows(split))[index]))

    def source_id(self, split: str, index: int) -> str:
        return self._parent.source_id(split, int(np.concatenate(self._rows(split))[index]))


SOURCES: dict[str, type[Source]] = {"npz": NpzSource, "idx": IdxSource, "folder": FolderSource}


def open_source(name: str, spec: Dataset) -> Source:
    """The source of a configured dataset."""
    return SOURCES[spec.source](name, spec)


def shard_classes(classes: int, shards: int) -> list[range]:
    """Contiguous whole classes per shard, as even as possible."""
    bounds = [round(i * classes / shards) for i in range(shards + 1)]
    return [range(a, b) for a, b in pairwise(bounds)]
