"""A folder per class: ImageNet's by WordNet id, fast.ai's ImageNette and ImageWoof, Places365, or anyone's own."""

import csv
import functools
import os
from collections import Counter
from pathlib import Path

import numpy as np

from limbeck.config import Dataset
from limbeck.data import benchmarks
from limbeck.data.decoding import is_image
from limbeck.data.sources.base import Source

NAMES = {"train": ("train",), "test": ("test", "val", "validation")}
SOLUTION = "LOC_val_solution.csv"  # the labels of ImageNet's validation images, as Kaggle has them


class FolderSource(Source):
    """``<path>/train/<class>/…`` and ``<path>/{test,val,validation}/<class>/…``; images may lie deeper (``train/<wnid>/images/``).

    A folder's name is a class's, or its WordNet id: then the class is called as ImageNet calls it. Without ``classes`` the order
    is that of the benchmark with exactly these folders, so that ImageWoof's labels are ImageWoof's, or else sorted. ImageNet's
    50,000 validation images may lie in one flat folder where ``LOC_val_solution.csv`` lies in it or up to three folders above.
    """

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        self._splits = {split: self._folder(split) for split in NAMES}
        found = [entry.name for entry in os.scandir(self._splits["train"]) if entry.is_dir() and not entry.name.startswith(".")]
        self._members = self.wanted or benchmarks.canonical(found)
        if not self._members:
            raise self.fail(f"no class folders in {self._splits['train']}")
        self._classes = tuple(map(benchmarks.class_name, self._members))
        if twice := [each for each, count in Counter(self._classes).items() if count > 1]:
            raise self.fail(f"class {twice[0]!r} is named twice; list each once in datasets.{name}.classes")

    def _folder(self, split: str) -> Path:
        for call in NAMES[split]:
            if (self.path / call).is_dir():
                return self.path / call
        if not self.path.is_dir():
            raise self.fail(f"no folder {self.path}; set datasets.{self.name}.path to where its images lie")
        wanted = "|".join(NAMES[split])
        raise self.fail(f"no folder {self.path}/{wanted}; expected {self.path}/{{train,test|val}}/<class>/<image>")

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def stamp(self) -> str:
        # a folder's own time changes when an entry is added or removed; editing a file in place goes unnoticed
        found = [self._class_folder(split, number) or self._splits[split] for split in NAMES for number in range(len(self.classes))]
        places = (*found, *(folder / "images" for folder in found))
        return " ".join(str(place.stat().st_mtime_ns) for place in places if place.exists())

    def _class_folder(self, split: str, number: int) -> Path | None:
        """A class's folder by its WordNet id or its name; None where the split is ImageNet's flat one."""
        for call in dict.fromkeys((self._members[number], benchmarks.wnid(self._classes[number]), self._classes[number])):
            if call and (self._splits[split] / call).is_dir():
                return self._splits[split] / call
        if split == "test" and self._flat():
            return None
        first = self._members[number]
        raise self.fail(f"class {first!r} has no folder {self._splits[split] / first}")

    @functools.cache  # noqa: B019
    def _flat(self) -> dict[str, list[str]]:
        """WordNet id -> files of ImageNet's validation set in one folder; empty where it is none."""
        folder = self._splits["test"]
        files = sorted(entry.name for entry in os.scandir(folder) if is_image(entry.name))
        if not files or any(entry.is_dir() for entry in os.scandir(folder)):
            return {}
        table = next((above / SOLUTION for above in (folder, *folder.parents[:4]) if (above / SOLUTION).is_file()), None)
        if table is None:
            raise self.fail(f"{folder} has images but no class folders; put {SOLUTION} beside it, or sort them into folders")
        with open(table, newline="", encoding="utf-8") as lines:
            owners = {row[0]: row[1].split()[0] for row in list(csv.reader(lines))[1:] if len(row) > 1 and row[1].strip()}
        found: dict[str, list[str]] = {}
        for file in files:
            stem = Path(file).stem
            if stem not in owners:
                raise self.fail(f"{table} has no line for {file}")
            found.setdefault(owners[stem], []).append(file)
        return found

    @functools.cache  # noqa: B019
    def _files(self, split: str) -> tuple[np.ndarray, list[str]]:
        """Class of every image, and its path below the split's folder."""
        found = [self._of_class(split, number) for number in range(len(self.classes))]
        return np.repeat(np.arange(len(found)), list(map(len, found))), [file for files in found for file in files]

    def _of_class(self, split: str, number: int) -> list[str]:
        folder, root = self._class_folder(split, number), self._splits[split]
        if folder is None:
            return self._flat().get(self._members[number], [])
        below = [os.path.join(at, file) for at, _, files in os.walk(folder, followlinks=True) for file in files if is_image(file)]
        return sorted(os.path.relpath(file, root) for file in below)

    def labels(self, split: str) -> np.ndarray:
        return self._files(split)[0]

    def raw(self, split: str, index: int) -> Path:
        return self._splits[split] / self._files(split)[1][index]

    def source_id(self, split: str, index: int) -> str:
        return self._files(split)[1][index]
