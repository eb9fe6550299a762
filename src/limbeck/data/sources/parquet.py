"""Parquet files with the images' bytes, in the layout of the Hugging Face hub."""

import functools
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from limbeck.config import Dataset
from limbeck.data import benchmarks
from limbeck.data.decoding import UNDECODED
from limbeck.data.sources.base import SPLITS, Source, stamped

TEST = ("test", "validation", "valid", "val")
IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "fine_label", "labels")
KEPT = 2  # row groups in memory: the one being read, and the next where the images of two are asked for in turn


class ParquetSource(Source):
    """``<path>/**/{train,test|validation}-*.parquet`` (or ``…/train/0000.parquet``): a column of images ({bytes, path} or
    bytes) and one of integer labels.

    Class names are those in the files' own metadata (``ClassLabel``), or the labels' numbers. Images are best read in the files'
    order: a row group is decompressed whole.
    """

    sequential = True

    def __init__(self, name: str, spec: Dataset):
        super().__init__(name, spec)
        train = self._files("train")
        if not train:
            raise self.fail(f"no train-*.parquet in {self.path} or below; set datasets.{self.name}.path to the dataset's folder")
        first = self._open(train[0]).schema_arrow
        self._image = self._pick(train[0], first, IMAGE_COLUMNS, None)
        self._label = self._pick(train[0], first, LABEL_COLUMNS, spec.label_column)
        self._groups: OrderedDict[tuple[Path, int], Any] = OrderedDict()
        self._paths = {"train": train, "test": self._labelled_test()}
        self._classes = self._named(first)

    def _files(self, call: str) -> list[Path]:
        """A split's files: ``<call>-*.parquet``, ``<call>.parquet`` or ``<call>/*.parquet``, of one configuration."""
        patterns = (f"{call}-*.parquet", f"{call}.parquet", f"{call}/*.parquet")
        try:
            found = sorted({path for pattern in patterns for path in self.path.rglob(pattern)})
        except OSError as error:
            key = f"datasets.{self.name}.path"
            raise self.fail(f"cannot look through {self.path} ({error}); set {key} to the dataset's folder") from None
        if len(folders := sorted({str(path.parent) for path in found})) > 1:
            raise self.fail(f"several configurations: {', '.join(folders[:4])}; set datasets.{self.name}.path to the folder of one")
        return found

    def _labelled_test(self) -> list[Path]:
        """The first of the test and validation splits that has labels: the hub's ImageNet has a test split without."""
        seen = []
        for call in TEST:
            files = self._files(call)
            if files and all(self._label in self._open(path).schema_arrow.names for path in files):
                labels = self._column(files)
                if labels.dtype.kind in "iu" and len(labels) and labels.min() >= 0:
                    return files
            seen += [call] if files else []
        what = (
            f"no labels in column {self._label!r} of its {' and '.join(seen)} files"
            if seen
            else "no test-* or validation-*.parquet"
        )
        raise self.fail(f"{what} in {self.path} or below; set datasets.{self.name}.path to the dataset's folder")

    def _open(self, path: Path) -> pq.ParquetFile:
        try:
            file = pq.ParquetFile(path)
            file.schema_arrow  # noqa: B018  # read now: names that are no UTF-8 are a ValueError
            return file
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self.fail(f"{path} is no parquet file, or only part of one ({' '.join(str(error).split())})") from None

    def _pick(self, path: Path, schema: pa.Schema, known: tuple[str, ...], wanted: str | None) -> str:
        names = [wanted] if wanted else [name for name in known if name in schema.names]
        if names and names[0] in schema.names:
            return names[0]
        key = f"; set datasets.{self.name}.label_column" if known is LABEL_COLUMNS else ""
        raise self.fail(f"no column {wanted or ' or '.join(known)} in {path}; it has {', '.join(schema.names)}{key}")

    def _named(self, schema: pa.Schema) -> tuple[str, ...]:
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
            return benchmarks.told_apart(features[self._label]["names"])
        except (KeyError, TypeError, ValueError):
            return tuple(map(str, range(1 + max(int(self._read_labels(split).max()) for split in SPLITS))))

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @functools.cache  # noqa: B019
    def _read_labels(self, split: str) -> np.ndarray:
        labels = self._column(self._paths[split])
        if labels.dtype.kind not in "iu" or not len(labels) or labels.min() < 0:
            raise self.fail(f"column {self._label!r} of its {split} files is no label of every image; set label_column")
        return labels.astype(np.int64)

    def _column(self, paths: list[Path]) -> np.ndarray:
        return np.concatenate([np.asarray(self._read(path, self._label).to_numpy()) for path in paths])

    def _read(self, path: Path, column: str, group: int | None = None) -> Any:
        """A column of a file, or of one of its row groups."""
        file = self._open(path)
        if column not in file.schema_arrow.names:
            raise self.fail(f"no column {column!r} in {path}; it has {', '.join(file.schema_arrow.names)}")
        try:
            return (file.read([column]) if group is None else file.read_row_group(group, [column])).column(0)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise self.fail(f"{path} is damaged ({' '.join(str(error).split())}); fetch it again") from None

    def labels(self, split: str) -> np.ndarray:
        labels = self._read_labels(split)
        if labels.max() >= len(self._classes):
            raise self.fail(f"{split} has a label {labels.max()}, its files name {len(self._classes)} classes")
        return labels

    @functools.cache  # noqa: B019
    def _index(self, split: str) -> tuple[np.ndarray, list[tuple[Path, int]]]:
        """The first row of every row group, and where it is."""
        files = [(path, self._open(path).metadata) for path in self._paths[split]]
        groups = [(path, number, meta.row_group(number).num_rows) for path, meta in files for number in range(meta.num_row_groups)]
        starts = np.cumsum([0, *(rows for *_, rows in groups)])[:-1]
        return starts, [(path, number) for path, number, _ in groups]

    def raw(self, split: str, index: int) -> bytes:
        starts, groups = self._index(split)
        number = int(np.searchsorted(starts, index, side="right")) - 1
        value = self._group(*groups[number])[index - int(starts[number])].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise ValueError(f"{UNDECODED} (no bytes in its row; images must lie in the parquet files, not beside them)")
        return content

    def _group(self, path: Path, number: int) -> Any:
        key = (path, number)
        if key not in self._groups:
            self._groups[key] = self._read(path, self._image, number)
        while len(self._groups) > KEPT:
            self._groups.popitem(last=False)
        return self._groups[key]

    def source_id(self, split: str, index: int) -> str:
        starts, groups = self._index(split)
        number = int(np.searchsorted(starts, index, side="right")) - 1
        path, group = groups[number]
        return f"{path.relative_to(self.path)}#{group}.{index - int(starts[number])}"

    def stamp(self) -> str:
        return stamped(path for paths in self._paths.values() for path in paths)
