"""The files of a stored prior by family, and its class table: light enough for the Snakefile."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from limbeck.data import benchmarks
from limbeck.errors import LimbeckError
from limbeck.records import check_hashes, read_json

INDEX = "model_index.json"
SCHEDULER = "scheduler/scheduler_config.json"
MANIFEST = "prior.json"  # schema "prior": the hashes of a stored prior's files
RECORD = "training.json"  # how the weights came to be
LOSS = "loss.png"  # of a tuned prior
DELTA = "delta.safetensors"  # of one tuned by DiffFit: what was trained, alone


def _models(*folders: str, file: str = "diffusion_pytorch_model.safetensors") -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for folder in folders for name in ("config.json", file))


def _encoders(*suffixes: str) -> tuple[str, ...]:
    models = _models(*(f"text_encoder{suffix}" for suffix in suffixes), file="model.safetensors")
    return models + tuple(f"tokenizer{s}/{name}" for s in suffixes for name in ("tokenizer.json", "tokenizer_config.json"))


# Every file of a stored prior, so that each is a declared output of the rule that writes it. The index stands for the whole.
FILES: dict[str, tuple[str, ...]] = {
    "dit": (INDEX, SCHEDULER, *_models("transformer", "vae")),
    "sd": (INDEX, SCHEDULER, *_models("unet", "vae"), *_encoders("")),
    "sdxl": (INDEX, SCHEDULER, *_models("unet", "vae"), *_encoders("", "_2")),
    "sdxl_refiner": (INDEX, SCHEDULER, *_models("unet", "vae"), *_encoders("_2")),
    "sd3": (INDEX, SCHEDULER, *_models("transformer", "vae"), *_encoders("", "_2")),
}
# what some priors of a family have and others do without: SD3's T5
OPTIONAL: dict[str, tuple[str, ...]] = {"sd3": _encoders("_3")}
# By layout: what a prior is loaded from, the index first. A layout is a family, or one with what only some of its priors have.
LAYOUTS = {**FILES, **{f"{family}_t5": FILES[family] + files for family, files in OPTIONAL.items()}}


def all_files(folder: Path, family: str) -> tuple[str, ...]:
    """The files of the prior in ``folder``, the optional ones that it has included."""
    return FILES[family] + tuple(name for name in OPTIONAL.get(family, ()) if (folder / name).is_file())


def verify(folder: Path, part: str = "") -> None:
    """Refuse a stored prior, or one part of it (``"vae/"``), that has other files than its manifest says; others have no manifest.

    Raises
    ------
    ArtifactError: a file is missing or changed, or the manifest itself is.
    """
    if (folder / MANIFEST).is_file():
        hashes = read_json(folder / MANIFEST, "prior")["sha256"]
        loaded = [name for name in hashes if name.startswith(part) and name not in (RECORD, LOSS, DELTA)]
        check_hashes(folder, hashes, loaded, folder / INDEX)


def weight_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights that a stored prior is loaded from, by the manifest."""
    hashes = read_json(folder / MANIFEST, "prior")["sha256"]
    return {name: value for name, value in hashes.items() if name.endswith(".safetensors") and name != DELTA}


def class_table(folder: Path | str) -> dict[int, str]:
    """Label -> text, from ``id2label`` of a diffusers DiT's model_index.json; a text is comma-separated synonyms."""
    path = Path(folder) / INDEX
    try:
        id2label = json.loads(path.read_text(encoding="utf-8"))["id2label"]
        return {int(number): str(text) for number, text in id2label.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LimbeckError(f"prior {folder}: {path} has no class table 'id2label' ({type(error).__name__})") from None


def known_classes(table: Mapping[int, str], classes: Sequence[str]) -> dict[str, int]:
    """The prior's label of those classes that it knows.

    A class is known by its text; by its index in ImageNet-1K, where the prior's text there begins with the same synonym (two
    classes are called "crane"); or by a synonym that one class of the prior alone has.
    """
    counts, synonyms = Counter(table.values()), Counter(part for text in table.values() for part in set(_synonyms(text)))
    of_text = {text: label for label, text in table.items() if counts[text] == 1}
    of_synonym = {part: label for label, text in table.items() for part in _synonyms(text) if synonyms[part] == 1}
    found: dict[str, int] = {}
    for name in classes:
        index = benchmarks.index(benchmarks.wnid(name))
        if name not in of_text and index is not None and _synonyms(table.get(index, ""))[0] == _synonyms(name)[0]:
            found[name] = index
        elif (label := of_text.get(name, of_synonym.get(name))) is not None:
            found[name] = label
    return found


def match_classes(table: Mapping[int, str], classes: Sequence[str], prior: str) -> list[int]:
    """The prior's label of every class, or an error that names the first class it does not know."""
    found = known_classes(table, classes)
    if unknown := [name for name in classes if name not in found]:
        several = " (several of its classes are called so)" if any(unknown[0] in _synonyms(text) for text in table.values()) else ""
        raise LimbeckError(
            f"prior {prior}: knows {len(table)} classes but not {unknown[0]!r}{several} ({len(unknown)} of the dataset's "
            f"{len(classes)} are unknown); choose a prior trained on these classes, or train one (priors.<name>.train)"
        )
    return [found[name] for name in classes]


def _synonyms(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]
