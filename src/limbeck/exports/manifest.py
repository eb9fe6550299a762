"""What an export says of itself, and whether it is still what was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.commit import digest

MANIFEST, CARD = "manifest.json", "README.md"
SCHEMA, VERSION = "export", 1


def read(path: Path) -> dict[str, Any] | None:
    """An export's manifest; None where a file is none, or none is there."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    whole = isinstance(said, dict) and said.get("schema") == SCHEMA and isinstance(said.get("files"), dict)
    return said if whole else None


def changed(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Names of files below an export's folder that are missing, were added, or have other bytes than its manifest says."""
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    there.pop(MANIFEST, None)
    listed: Mapping[str, str] = manifest["files"]
    odd = set(there) ^ set(listed)
    return sorted(odd | {name for name in set(there) & set(listed) if digest(there[name]) != listed[name]})
