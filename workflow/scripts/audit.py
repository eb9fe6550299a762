"""Audit of what `make setup` installs: hashes against the lock, and known vulnerabilities, where their data can be reached.

`audit.py [--tool PIP_AUDIT]`: exit status 1 where a file that the index offers under a locked name has another hash, or a
vulnerability is known. `audit.py --lock` writes the lock anew.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "constraints.sha256"
HEAD = "# SHA-256 of what `make setup` installs on Linux, x86-64, Python 3.11; written by `make lock`, compared by `make audit`\n"


def offered() -> dict[str, tuple[str, str]]:
    """File name -> (name==version, SHA-256) of everything that pip would download, without downloading it."""
    with tempfile.NamedTemporaryFile("r", suffix=".json") as report:
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", report.name]
        command += ["--constraint", str(ROOT / "constraints.txt"), "--editable", f"{ROOT}[dev,docs,cluster]"]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL, cwd=ROOT)
        installed = json.load(report)["install"]
    found = {}
    for each in installed:
        name = f"{each['metadata']['name'].lower()}=={each['metadata']['version']}"
        if digest := each["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256"):
            found[unquote(urlsplit(each["download_info"]["url"]).path).rsplit("/", 1)[-1]] = (name, digest)
    return found


def locked() -> dict[str, str]:
    """File name -> SHA-256."""
    lines = (line for line in LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def differing(found: Mapping[str, tuple[str, str]], lock: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Files whose hash is another one than the lock's, and files that the lock does not have: another platform's."""
    return (
        sorted(name for name, (_, digest) in found.items() if lock.get(name, digest) != digest),
        sorted(name for name in found if name not in lock),
    )


def vulnerabilities(tool: Path, pins: list[str]) -> tuple[int, list[str]]:
    """How many of the pins could be looked up, and what is known of them, a line each."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command = [
            str(tool),
            "--requirement",
            file.name,
            "--no-deps",
            "--disable-pip",
            "--format",
            "json",
            "--progress-spinner",
            "off",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        about = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return 0, []  # its service could not be reached
    said = [f"{each['name']}=={each['version']}: {v['id']}" for each in about for v in each.get("vulns", [])]
    return sum("vulns" in each for each in about), said


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lock", action="store_true", help="write the lock")
    parser.add_argument("--tool", type=Path, help="pip-audit; without it only hashes are compared")
    options = parser.parse_args()
    found = offered()
    if options.lock:
        lines = sorted(f"{digest}  {name}\n" for name, (_, digest) in found.items())
        LOCK.write_text(HEAD + "".join(sorted(lines, key=lambda line: line.split("  ")[1])), encoding="utf-8")
        print(f"{LOCK.name}: {len(found)} files")
        return 0
    others, unknown = differing(found, locked())
    for name in others:
        print(f"{name}: the index offers another file than the one that was locked", file=sys.stderr)
    print(f"hashes: {len(found) - len(others) - len(unknown)} of {len(found)} files are the lock's, {len(others)} are not")
    if unknown:
        print(f"not in the lock (another platform's, or `make lock` is due): {', '.join(unknown)}")
    bad: list[str] = []
    if options.tool:
        asked, bad = vulnerabilities(options.tool, sorted(name for name, _ in found.values()))
        print(*bad, sep="\n", end="\n" if bad else "")
        print(
            f"vulnerabilities: {asked} of {len(found)} looked up, {len(bad)} known"
            if asked
            else "vulnerabilities: no data from here"
        )
    return int(bool(others or bad))


if __name__ == "__main__":
    sys.exit(main())
