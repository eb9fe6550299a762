"""Paths as the config writes them."""

import os
from pathlib import Path


def package_path(path: str) -> Path:
    """A configured path; ``package:NAME`` is a file or folder beside this module."""
    if path.startswith("package:"):
        return Path(__file__).parent / path.removeprefix("package:")
    return Path(os.path.expanduser(path))  # a user that is not there stays as it is


def local_folder(weights: str) -> Path | None:
    """The folder that ``weights`` names; None for a hub name."""
    local = weights.startswith(("/", ".", "~", "package:")) or Path(weights).exists()
    return package_path(weights) if local else None
