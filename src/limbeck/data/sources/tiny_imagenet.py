"""Tiny-ImageNet as published: 200 classes of 64×64, the validation images in one folder with a file of annotations."""

import functools
import os
from pathlib import Path

import numpy as np

from limbeck.config import Dataset
from limbeck.data import benchmarks
from limbeck.data.decoding import is_image
from limbeck.data.sources.base import Source, stamped

ANNOTATIONS = "val_annotations.txt"


class TinyImageNetSource(Source):
    """``tiny-imagenet-200/{wnids.txt, words.txt, train/<wnid>/images/, val/images/, val/val_annotations.txt}``.

    The classes' order is that of wnids.txt. Its test images carry no labels, so that val is the test split, as everywhere.
    """

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        if not (self.path / "wnids.txt").is_file() and (self.path / "tiny-imagenet-200").is_dir():
            self.path = self.path / "tiny-imagenet-200"
        self._wnids = self._lines("wnids.txt")
        if not self._wnids:
            raise self.fail(f"{self.path / 'wnids.txt'} lists no class; unpack tiny-imagenet-200.zip there")
        if len(set(self._wnids)) < len(self._wnids):
            raise self.fail(f"{self.path / 'wnids.txt'} lists a class twice; unpack tiny-imagenet-200.zip there")
        # ImageNet-1K's text where it has the class, so that priors of ImageNet know it by its name
        words = dict(line.split("\t", 1) for line in self._lines("words.txt") if "\t" in line)
        names = [benchmarks.class_name(wnid) for wnid in self._wnids]
        self._classes = benchmarks.told_apart([words.get(name, name).strip() for name in names])

    def _lines(self, file: str) -> list[str]:
        try:
            lines = (self.path / file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            raise self.fail(f"cannot read {self.path / file} ({error}); unpack tiny-imagenet-200.zip there") from None
        return [line for line in lines if line.strip()]

    def aliases(self) -> dict[str, str]:
        return dict(zip(self._wnids, self._classes, strict=True))  # some are not of ImageNet-1K

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @functools.cache  # noqa: B019
    def _files(self, split: str) -> tuple[np.ndarray, list[str]]:
        """Class of every image, class by class, and its path below the dataset's folder."""
        found = self._train() if split == "train" else self._val()
        return np.repeat(np.arange(len(found)), list(map(len, found))), [file for files in found for file in files]

    def _train(self) -> list[list[str]]:
        found = []
        for wnid in self._wnids:
            folder = Path("train", wnid, "images")
            if not (self.path / folder).is_dir():
                raise self.fail(f"class {wnid} has no folder {self.path / folder}")
            found.append(sorted(str(folder / name) for name in os.listdir(self.path / folder) if is_image(name)))
        return found

    def _sorted_val(self) -> list[list[str]] | None:
        """The test images where they have been sorted into ``val/<wnid>/`` or ``val/<wnid>/images/``; None where not."""
        folders = [Path("val", wnid) for wnid in self._wnids]
        if not all((self.path / folder).is_dir() for folder in folders):
            return None
        found = []
        for folder in folders:
            own = folder / "images" if (self.path / folder / "images").is_dir() else folder
            found.append(sorted(str(own / name) for name in os.listdir(self.path / own) if is_image(name)))
        return found

    def _val(self) -> list[list[str]]:
        if (already := self._sorted_val()) is not None:
            return already
        there = set(os.listdir(self.path / "val/images")) if (self.path / "val/images").is_dir() else set()
        found: dict[str, list[str]] = {wnid: [] for wnid in self._wnids}
        for line in self._lines(f"val/{ANNOTATIONS}"):
            file, _, rest = line.partition("\t")
            wnid = rest.partition("\t")[0]
            if wnid not in found:
                raise self.fail(f"{self.path / 'val' / ANNOTATIONS} gives {file} the class {wnid!r}, which wnids.txt does not have")
            if file not in there:
                raise self.fail(f"{self.path / 'val' / ANNOTATIONS} lists {file}, which is not in val/images; unpack it again")
            found[wnid].append(str(Path("val", "images", file)))
        return [sorted(files) for files in found.values()]

    def labels(self, split: str) -> np.ndarray:
        return self._files(split)[0]

    def raw(self, split: str, index: int) -> Path:
        return self.path / self._files(split)[1][index]

    def source_id(self, split: str, index: int) -> str:
        return self._files(split)[1][index]

    def stamp(self) -> str:
        places = ["wnids.txt", "words.txt", f"val/{ANNOTATIONS}", "val/images", *(f"train/{wnid}/images" for wnid in self._wnids)]
        return stamped(self.path / place for place in (*places, *(f"val/{wnid}" for wnid in self._wnids)))
