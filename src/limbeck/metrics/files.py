"""The files that an extractor is loaded from, in transformers' layout or as one TorchScript: light enough for the Snakefile."""

import json
import os
from pathlib import Path

from limbeck.errors import LimbeckError

INDEX = "model.safetensors.index.json"
# one of each is needed, the first that is there is read
LAYOUT = (
    ("config.json",),
    ("preprocessor_config.json", "processor_config.json"),
    ("model.safetensors", INDEX),
)


def folder_files(folder: Path, key: str) -> list[str]:
    """Names of the files in ``folder`` that a model is loaded from.

    Raises
    ------
    LimbeckError: those that are missing, and where they were looked for; ``key`` is the config's.
    """
    found, missing = [], []
    for names in LAYOUT:
        there = [name for name in names if (folder / name).is_file()]
        found += there[:1]
        missing += [] if there else [" or ".join(names)]
    if INDEX in found:
        shards = _shards(folder / INDEX, key)
        found += shards
        missing += [name for name in shards if not (folder / name).is_file()]
    if missing:
        raise LimbeckError(f"{key}: missing in {folder}: {', '.join(missing)}")
    return found


def _shards(index: Path, key: str) -> list[str]:
    try:
        return sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise LimbeckError(f"{key}: {index} lists no weights ({type(error).__name__})") from None


def script_file(weights: str, key: str) -> Path:
    """The file of a TorchScript.

    Raises
    ------
    LimbeckError: there is none; ``key`` is the config's.
    """
    path = Path(os.path.expanduser(weights))
    if not path.is_file():
        raise LimbeckError(f"{key}: no file {path}; a TorchScript is a local .pt file")
    return path
