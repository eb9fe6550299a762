"""teacher: a classifier trained on the real training set, or given, tested on the real test set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from limbeck.commit import digest, replacing
from limbeck.errors import LimbeckError
from limbeck.records import write_json
from limbeck.settings import Settings
from limbeck.stages.classifiers import builder, read_set
from limbeck.stages.common import Spec, classes_of, params, progress
from limbeck.students.evaluation import accuracy, order_complaint, per_class, permuted, predict
from limbeck.students.training import finite, train

CHANCE = 1.5  # times chance: the least accuracy of a teacher


def run(
    spec: Spec, train_images: Sequence[Path], test_images: Sequence[Path], weights: Path, record: Path, given: Path | None = None
) -> None:
    """Write ``weights`` (safetensors) and ``record`` (its accuracy), trained or from the state dict ``given``.

    Raises
    ------
    LimbeckError: it is near chance, its classes are in another order than the test set's, its loss is not a number, or the given
    state dict is not its architecture's.
    """
    settings = Settings.model_validate(spec["settings"])
    names = classes_of(train_images[0])
    test, labels = read_set(test_images, settings)
    make = builder(spec["architecture"], test, len(names))
    model = _loaded(make(), given, spec) if given else _trained(spec, settings, train_images, make)
    predicted = predict(model, test, settings.normalise)
    _gate(spec["teacher"], predicted, labels, names)
    with replacing(weights) as part:
        save_file({k: v.contiguous().cpu() for k, v in model.state_dict().items()}, part)
    results = {
        "accuracy": accuracy(predicted, labels),
        "per_class": per_class(predicted, labels, len(names)),
        "test_images": len(test),
        "classes": names,
        "input": {"channels": test.shape[-1], "size": test.shape[1], "normalise": settings.normalise},
        "architecture": spec["architecture"],
        "sha256": {weights.name: digest(weights)},
        "parameters": int(np.sum([p.numel() for p in model.parameters()])),
    }
    write_json(record, "teacher", params(spec, "given"), results)


def _trained(spec: Spec, settings: Settings, train_images: Sequence[Path], make: Any) -> nn.Module:
    images, labels = read_set(train_images, settings)
    with progress("teacher") as report:
        try:
            return train(make, images, labels, settings, spec["seed"], -1, report)
        except FloatingPointError as error:
            raise LimbeckError(f"teachers.{spec['teacher']}: {error}; choose a protocol with a lower learning rate") from None


def _loaded(model: nn.Module, path: Path, spec: Spec) -> nn.Module:
    key = f"teachers.{spec['teacher']}.weights"
    try:
        state: dict[str, Tensor] = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        state = state.get("state_dict", state.get("model", state))  # type: ignore[assignment]
        model.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    except Exception as error:  # safetensors, torch and load_state_dict raise their own
        said = " ".join(str(error).split())[:300]
        raise LimbeckError(
            f"{key}: {path} is no state dict of {spec['architecture']['name']} for these images and classes ({said})"
        ) from None
    if not finite(model):
        raise LimbeckError(f"{key}: {path} has weights that are not numbers; fetch it again, or train a teacher")
    return model.eval()


def _gate(name: str, predicted: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> None:
    """Refuse a teacher whose labels would mean nothing."""
    if found := permuted(predicted, labels, len(names)):
        raise LimbeckError(
            f"teachers.{name}: its classes are in another order than the test set's: test images labelled "
            f"{order_complaint(found, names)} to it; do the folders of train and test, or the weights, have the same classes?"
        )
    found_accuracy = accuracy(predicted, labels)
    if len(names) > 1 and found_accuracy < CHANCE / len(names):
        raise LimbeckError(
            f"teachers.{name}: test accuracy {found_accuracy:.3f} is near chance for {len(names)} classes; train longer "
            f"(teachers.{name}.protocol), or give weights that were trained on these classes"
        )
