"""The audit of what is installed: hashes against the lock, and what pip-audit says or cannot say."""

import json
import sys
from pathlib import Path

import pytest

from workflow.scripts import audit


def test_another_file_under_a_locked_name_is_told_from_one_that_is_not_locked():
    lock = {"a-1.whl": "aa", "b-1.whl": "bb", "gone-1.whl": "cc"}
    found = {"a-1.whl": ("a==1", "aa"), "b-1.whl": ("b==1", "other"), "c-1-mac.whl": ("c==1", "dd")}
    assert audit.differing(found, lock) == (["b-1.whl"], ["c-1-mac.whl"])


def test_the_lock_has_every_pin():
    names = {name.split("-")[0].lower().replace("_", "-") for name in audit.locked()}
    pins = {line.split("==")[0].lower() for line in (audit.ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    missing = {pin for pin in pins if pin.replace("_", "-") not in names and pin.split(".")[0] not in names}
    assert missing <= {"tzdata"}, f"{missing}: make lock"  # that one is for systems without time zones
    assert all(len(digest) == 64 for digest in audit.locked().values())


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"dependencies": [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1"}]}]}, (1, ["a==1: CVE-1"])),
        ({"dependencies": [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}]}, (1, [])),
        ("no connection", (0, [])),
    ],
)
def test_what_is_known_and_what_could_not_be_asked(tmp_path: Path, said, expected):
    tool = tmp_path / "pip-audit"
    tool.write_text(f"#!{sys.executable}\nprint({(json.dumps(said) if isinstance(said, dict) else said)!r})\n")
    tool.chmod(0o755)
    assert audit.vulnerabilities(tool, ["a==1"]) == expected
