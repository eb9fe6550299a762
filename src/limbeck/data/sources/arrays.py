"""Images stored as arrays: an npz file, or the four idx files of MNIST and its relatives."""

import gzip
import zlib
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

import numpy as np

from limbeck.config import Dataset
from limbeck.data.sources.base import SPLITS, Source
from limbeck.errors import LimbeckError

FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


class ArraySource(Source):
    """Images stored as one array per split. Labels are read at once, images when the first is asked for.

    ``classes`` of the config are names for its labels in their order.
    """

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
            if labels.ndim != 1 or len(labels) != len(self._ids[split]):
                raise self.fail(f"{self.path}: {split} has labels of shape {labels.shape}, expected one for every image")
            if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(self.classes):
                raise self.fail(f"{self.path}: {split} has {len(labels)} images and labels beyond its {len(self.classes)} classes")

    def labels(self, split: str) -> np.ndarray:
        return self._labels[split]

    def raw(self, split: str, index: int) -> np.ndarray:
        if split not in self._images:
            images = self._read_images(split)
            if len(images) != len(self._labels[split]):
                raise self.fail(f"{self.path}: {split} has {len(images)} images but {len(self._labels[split])} labels")
            self._images[split] = self._pixels(images, split)
        return self._images[split][index]

    def _pixels(self, images: np.ndarray, split: str) -> np.ndarray:
        """(N, H, W) or (N, H, W, 3) uint8."""
        if images.dtype == np.uint16:
            images = (images >> 8).astype(np.uint8)  # as of 16-bit files
        shape = images.shape[1:3] if images.shape[3:] == (1,) else images.shape[1:]
        if images.dtype != np.uint8 or len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
            raise self.fail(
                f"{self.path}: {split} images are {images.dtype} of shape {images.shape}; expected uint8 (N, H, W) or (N, H, W, 3)"
            )
        return images.reshape(len(images), *shape)

    def source_id(self, split: str, index: int) -> str:
        return str(self._ids[split][index])


class NpzSource(ArraySource):
    """One npz: ``{train,test}_images``, ``{train,test}_labels``, ``{train,test}_ids`` (optional) and ``classes``."""

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        try:
            with open(self.path, "rb") as whole, np.load(whole, allow_pickle=False) as file:
                self._classes = tuple(map(str, file["classes"]))
                for split in SPLITS:
                    self._labels[split] = file[f"{split}_labels"].astype(np.int64)
                    self._ids[split] = file[f"{split}_ids"] if f"{split}_ids" in file else np.arange(len(self._labels[split]))
        except FileNotFoundError:
            raise self.fail(f"no file {self.path}") from None
        except Exception as error:
            raise self._unexpected(error) from None
        self._check_labels()

    def _unexpected(self, error: Exception) -> LimbeckError:
        """Of a damaged file zipfile, zlib and NumPy raise nearly everything."""
        return self.fail(f"{self.path} is not the expected npz ({error})")

    def _read_images(self, split: str) -> np.ndarray:
        try:
            with open(self.path, "rb") as whole, np.load(whole, allow_pickle=False) as file:
                return file[f"{split}_images"]
        except Exception as error:
            raise self._unexpected(error) from None


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
