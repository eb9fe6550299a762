"""The files of a stored prior and its class table: light enough for the Snakefile."""

import json
from collections.abc import Sequence
from pathlib import Path

from limbeck.errors import LimbeckError

# Every file of a stored prior, so that each is a declared output of the rule that writes it. The first stands for the whole.
PRIOR_FILES = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
)

MANIFEST = "prior.json"  # schema "prior": the hashes of those files
RECORD = "training.json"  # how the weights came to be


def class_table(folder: Path | str) -> dict[str, int]:
    """Class name -> label, from ``id2label`` of a diffusers DiT's model_index.json; synonyms count as names too."""
    path = Path(folder) / "model_index.json"
    try:
        id2label = json.loads(path.read_text(encoding="utf-8"))["id2label"]
    except (OSError, ValueError, KeyError) as error:
        raise LimbeckError(f"prior {folder}: {path} has no class table 'id2label' ({type(error).__name__})") from None
    table: dict[str, int] = {}
    for number, text in id2label.items():
        for name in (text, *(part.strip() for part in text.split(","))):
            table.setdefault(name, int(number))
    return table


def match_classes(table: dict[str, int], classes: Sequence[str], prior: str) -> list[int]:
    """The prior's label of every class, or an error that names the first class it does not know."""
    unknown = [name for name in classes if name not in table]
    if unknown:
        raise LimbeckError(
            f"prior {prior}: knows {len(set(table.values()))} classes but not {unknown[0]!r} ({len(unknown)} of the dataset's "
            f"{len(classes)} are unknown); choose a prior trained on these classes, or train one (priors.<name>.train)"
        )
    return [table[name] for name in classes]
