"""Where images come from, one module per layout: each is loaded when a dataset has it."""

import importlib

from limbeck.config import Dataset
from limbeck.data.sources.base import Source
from limbeck.data.sources.subset import Subset

SOURCES: dict[str, tuple[str, str]] = {
    "npz": ("limbeck.data.sources.arrays", "NpzSource"),
    "idx": ("limbeck.data.sources.arrays", "IdxSource"),
    "folder": ("limbeck.data.sources.folder", "FolderSource"),
    "cifar": ("limbeck.data.sources.cifar", "CifarSource"),
    "tiny_imagenet": ("limbeck.data.sources.tiny_imagenet", "TinyImageNetSource"),
    "parquet": ("limbeck.data.sources.parquet", "ParquetSource"),
}
# Of these, ``classes`` chooses; to arrays it gives names, and folders are looked up by it.
CHOOSING = ("cifar", "tiny_imagenet", "parquet")


def open_source(name: str, spec: Dataset) -> Source:
    """The source of a configured dataset of files.

    Raises
    ------
    LimbeckError: one line that names the dataset and what is missing or damaged.
    """
    module, kind = SOURCES[spec.source]
    source = getattr(importlib.import_module(module), kind)(name, spec)
    return Subset(name, spec, source) if spec.classes and spec.source in CHOOSING else source
