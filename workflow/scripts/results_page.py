"""Write docs/RESULTS.md from the summaries that `make table` made."""

from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
INTRO = f"""# Results

Written by `make table` (limbeck {version("limbeck")}) on the embedded benchmark `fashion-mini`; the numbers are as they came.
Every method shares its generation and training seeds, so differences are taken seed by seed; a difference is *resolved* when 0
lies outside its 95 % interval. The prior has seen all 60,000 training images of Fashion-MNIST; `random` and `kmeans` choose
among the benchmark's 5,000.

"""


def main() -> None:
    """Join the markdown summaries of both IPCs."""
    parts = [(ROOT / f"results/fashion-mini/ipc{ipc}/summary.md").read_text(encoding="utf-8") for ipc in (10, 50)]
    (ROOT / "docs/RESULTS.md").write_text(INTRO + "\n".join(parts), encoding="utf-8")
    print("docs/RESULTS.md")


if __name__ == "__main__":
    main()
