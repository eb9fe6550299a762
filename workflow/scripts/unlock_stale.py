"""Remove Snakemake's lock when the Snakemake that took it was killed: its process is gone. A live one is left alone."""

from pathlib import Path


def snakemake_running(folder: Path) -> bool:
    """Whether any process runs Snakemake in ``folder`` (Linux; elsewhere assume that one does)."""
    proc = Path("/proc")
    if not proc.is_dir():
        return True
    for process in proc.glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if any(part.endswith(b"snakemake") for part in command[:3]) and (process / "cwd").resolve() == folder:
                return True
        except OSError:
            continue
    return False


if __name__ == "__main__":
    here = Path.cwd().resolve()
    locks = list((here / ".snakemake/locks").glob("*.lock"))
    if locks and not snakemake_running(here):
        # what `snakemake --unlock` does, which would ask for the run's Snakefile and config
        for lock in locks:
            lock.unlink(missing_ok=True)
