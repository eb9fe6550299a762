"""A folder per class: ImageNet's by WordNet id, fast.ai's ImageNette and ImageWoof, Places365, or anyone's own."""

import csv
import functools
import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np

from limbeck.config import Dataset
from limbeck.data import benchmarks
from limbeck.data.decoding import is_image
from limbeck.data.sources.base import Source, stamped

NAMES = {"train": ("train",), "test": ("test", "val", "validation")}
SOLUTION = "LOC_val_solution.csv"  # the labels of ImageNet's validation images, as Kaggle has them


class FolderSource(Source):
    """``<path>/train/<class>/…`` and ``<path>/{test,val,validation}/<class>/…``; images may lie deeper (``train/<wnid>/images/``).

    A folder's name is a class's, or its WordNet id: then the class is called as ImageNet calls it. Without ``classes`` the order
    is that of the benchmark with exactly these folders, so that ImageWoof's labels are ImageWoof's, or else sorted. ImageNet's
    50,000 validation images may lie in one flat folder where ``LOC_val_solution.csv`` lies in it or up to three folders above.

    With ``test_share`` the classes' folders lie in ``<path>`` itself, and that share of each is the test split.
    """

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        self._share = spec.test_share
        train = self._folder("train", ()) if self._share is None else self._undivided()
        found = _folders(train)
        self._splits = {"train": train, "test": self._folder("test", found) if self._share is None else train}
        self._members = self.wanted or benchmarks.canonical(found)
        if not self._members:
            raise self.fail(f"no class folders in {train}")
        self._classes = tuple(map(benchmarks.class_name, self._members))
        if twice := [each for each, count in Counter(self._classes).items() if count > 1]:
            raise self.fail(f"class {twice[0]!r} is named twice; list each once in datasets.{name}.classes")

    def _folder(self, split: str, classes: tuple[str, ...]) -> Path:
        """A split's folder: of several the first that has folders of these classes, or else what is not called test (ImageNet's
        test images have no labels).
        """
        there = [self.path / call for call in NAMES[split] if (self.path / call).is_dir()]
        if not self.path.is_dir():
            raise self.fail(f"no folder {self.path}; set datasets.{self.name}.path to where its images lie")
        if not there:
            wanted = "|".join(NAMES[split])
            whole = f"{self.path}/{{train,test|val}}/<class>/<image>, or {self.path}/<class>/<image> with test_share: 0.2"
            raise self.fail(f"no folder {self.path}/{wanted}; expected {whole}")
        sorted_in = [folder for folder in there if not set(classes).isdisjoint(_folders(folder))]
        return (sorted_in or [folder for folder in there if folder.name != "test"] or there)[0]

    def _undivided(self) -> Path:
        """The folder of the classes' folders where nobody has parted them into splits."""
        if not self.path.is_dir():
            raise self.fail(f"no folder {self.path}; set datasets.{self.name}.path to where its images lie")
        if divided := sorted({*_folders(self.path)} & {call for calls in NAMES.values() for call in calls}):
            raise self.fail(f"{self.path} has a folder {divided[0]!r}, so it is parted already; remove test_share")
        return self.path

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @functools.cache  # noqa: B019
    def stamp(self) -> str:
        # a folder's own time changes when an entry is added or removed; editing an image in place goes unnoticed
        walked = [path for split in NAMES for path in self._files(split)[2]]
        return stamped(walked if self._table is None else [*walked, str(self._table)])

    def _class_folder(self, split: str, number: int) -> Path | None:
        """A class's folder by its WordNet id or its name; None where the split is ImageNet's flat one."""
        for call in dict.fromkeys((self._members[number], benchmarks.wnid(self._classes[number]), self._classes[number])):
            if call and (self._splits[split] / call).is_dir():
                return self._splits[split] / call
        if split == "test" and self._flat:
            return None
        first = self._members[number]
        raise self.fail(f"class {first!r} has no folder {self._splits[split] / first}")

    @functools.cached_property
    def _table(self) -> Path | None:
        """The labels of a flat validation folder; None where its images lie in class folders."""
        folder = self._splits["test"]
        if _folders(folder) or not any(map(is_image, os.listdir(folder))):
            return None
        table = next((above / SOLUTION for above in (folder, *folder.parents[:4]) if (above / SOLUTION).is_file()), None)
        if table is None:
            raise self.fail(f"{folder} has images but no class folders; put {SOLUTION} beside it, or sort them into folders")
        return table

    @functools.cached_property
    def _flat(self) -> dict[str, list[str]]:
        """WordNet id -> files of ImageNet's validation set in one folder; empty where it is none."""
        if self._table is None:
            return {}
        try:
            with open(self._table, newline="", encoding="utf-8") as lines:
                owners = {row[0]: row[1].split()[0] for row in list(csv.reader(lines))[1:] if len(row) > 1 and row[1].strip()}
        except (OSError, UnicodeError, csv.Error) as error:
            raise self.fail(f"cannot read {self._table} ({error}); fetch it again") from None
        found: dict[str, list[str]] = {}
        for file in sorted(filter(is_image, os.listdir(self._splits["test"]))):
            stem = os.path.splitext(file)[0]
            if stem not in owners:
                raise self.fail(f"{self._table} has no line for {file}")
            found.setdefault(owners[stem], []).append(file)
        return found

    @functools.cache  # noqa: B019
    def _files(self, split: str) -> tuple[np.ndarray, list[str], list[str]]:
        """Class of every image, its path below the split's folder, and every folder that was walked."""
        walked: list[str] = []
        found = [self._of_class(split, number, walked) for number in range(len(self.classes))]
        return np.repeat(np.arange(len(found)), list(map(len, found))), [file for files in found for file in files], walked

    def _of_class(self, split: str, number: int, walked: list[str]) -> list[str]:
        folder, root = self._class_folder(split, number), str(self._splits[split])
        if folder is None:
            walked.append(root)
            return self._flat.get(benchmarks.wnid(self._classes[number]) or self._members[number], [])
        found = sorted(file[len(root) + 1 :] for file in _images_below(str(folder), walked, set()))
        return found if self._share is None else _part(found, self._share, split)

    def labels(self, split: str) -> np.ndarray:
        return self._files(split)[0]

    def raw(self, split: str, index: int) -> Path:
        return self._splits[split] / self._files(split)[1][index]

    def source_id(self, split: str, index: int) -> str:
        return self._files(split)[1][index]


def _part(files: list[str], share: float, split: str) -> list[str]:
    """A split's part of a class: the files are ranked by a hash of their names."""
    ranked = sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file)).digest())
    tested = set(ranked[: max(1, round(share * len(files)))])
    return [file for file in files if (file in tested) == (split == "test")]


def _folders(folder: Path) -> tuple[str, ...]:
    """Names of the folders in it; hidden ones are none."""
    return tuple(entry.name for entry in os.scandir(folder) if not entry.name.startswith(".") and entry.is_dir())


def _images_below(folder: str, walked: list[str], seen: set[tuple[int, int]]) -> list[str]:
    """Images in a folder and those below it, through links too, each folder once: a link may lead back up."""
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in seen:
        return []
    seen.add((status.st_dev, status.st_ino))
    walked.append(folder)
    found: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_image(entry.name):  # before anything that asks the file system
                found.append(f"{folder}/{entry.name}")
            elif not entry.name.startswith(".") and entry.is_dir():
                found += _images_below(f"{folder}/{entry.name}", walked, seen)
    return found
