"""The dataset card of an export: README.md with the Hugging Face hub's front matter."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck.exports.cell import Distilled
from limbeck.exports.formats import FORMATS
from limbeck.report.cells import Cell, outcome

TEMPLATE = Path(__file__).with_name("card.md.jinja")
# of the hub's front matter: the least numbers of images of its kinds of sizes
SIZES = {0: "n<1K", 1_000: "1K<n<10K", 10_000: "10K<n<100K", 100_000: "100K<n<1M", 1_000_000: "1M<n<10M"}
LISTED = 20  # files whose hashes the card has; those of more are in the manifest alone


def text(found: Distilled, about: Mapping[str, Any], files: Mapping[str, str]) -> str:
    """The card of an export that the manifest says so much ``about``, of ``files`` with their SHA-256."""
    from huggingface_hub import DatasetCard, DatasetCardData

    layout = FORMATS[about["format"]]
    title = _title(found)
    splits = [{"split": "train", "path": layout.data_files}]
    found_by: dict[str, Any] = {"configs": [{"config_name": "default", "data_files": splits}]} if layout.data_files else {}
    data = DatasetCardData(
        pretty_name=title,
        license="unknown",
        task_categories=["image-classification"],
        size_categories=[next(size for least, size in reversed(SIZES.items()) if found.images >= least)],
        tags=["dataset-distillation", "limbeck"],
        **found_by,
    )
    made = DatasetCard.from_template(
        data,
        template_path=str(TEMPLATE),
        title=title,
        about=about,
        load=layout.line("."),
        params=_indented(json.dumps(about["params"], indent=1, sort_keys=True, ensure_ascii=False)),
        classes=_indented("\n".join(f"{i}  {json.dumps(name, ensure_ascii=False)}" for i, name in enumerate(found.classes))),
        accuracies=[_line(*column, each) for column, each in found.accuracies().items()],
        soft_labels=sorted(found.labels),
        files=files if len(files) <= LISTED else {},
        count=len(files),
    )
    return str(made)


def _title(found: Distilled) -> str:
    names, size = found.names, f"{found.ipc} images per class" if found.ipc else f"{found.images} images"
    return f"{names['dataset']} distilled by {names['method']}, {size}" if "dataset" in names else f"Distilled set, {size}"


def _line(protocol: str, student: str, found: Cell) -> dict[str, Any]:
    labels = found.labels["kind"] + (f" ({found.labels['teacher']})" if "teacher" in found.labels else "")
    shown = {"accuracy": outcome(found), "trainings": found.repeats, "test_images": found.test_images}
    return {"protocol": protocol, "student": student, "labels": labels, **shown}


def _indented(text: str) -> str:
    """As a block of code that nothing in it can end."""
    return "\n".join(f"    {line}" for line in text.splitlines())
