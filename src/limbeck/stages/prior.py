"""prior: a diffusion prior in diffusers' layout under results/priors: copied from the package, a folder or the hub, or trained."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL

from limbeck.artifacts import IMAGES
from limbeck.config import PriorTraining
from limbeck.data.paths import local_folder, package_path
from limbeck.errors import LimbeckError
from limbeck.faults import writing
from limbeck.priors import dit
from limbeck.priors.files import DELTA, FILES, INDEX, LOSS, MANIFEST, RECORD, all_files, class_table
from limbeck.priors.registry import family
from limbeck.priors.weights import vae_folder
from limbeck.stages.common import Spec, classes_of, params, progress, read_all
from limbeck.store import digest, write_json

SCHEDULER = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "clip_sample": False,
    "prediction_type": "epsilon",
}


def run(spec: Spec, images: Sequence[Path], index: Path) -> dict[str, float]:
    """Write the prior beside ``index`` (its model_index.json), whole or not at all; returns the bytes of its weights."""
    with stored(spec, index) as part:
        if spec["train"] is not None:
            _train(spec, images, part)
        else:
            _copy(spec, part)
    return weights_bytes(index, spec["family"])


def weights_bytes(index: Path, family: str) -> dict[str, float]:
    """What the weights take that the prior beside ``index`` is loaded from."""
    files = (index.parent / name for name in all_files(index.parent, family) if name.endswith(".safetensors"))
    return {"weights_bytes": sum(file.stat().st_size for file in files)}


@contextmanager
def stored(spec: Spec, index: Path) -> Iterator[Path]:
    """A folder to write a prior into; afterwards its files stand beside ``index`` with a manifest of their hashes."""
    folder = index.parent
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # by a killed job; mkdtemp's names have eight letters, so those of a prior whose name goes on with a dot do not match
        for left in folder.parent.glob(f".{folder.name}.????????.part"):
            shutil.rmtree(left, ignore_errors=True)
        part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        try:
            yield part
            folder.mkdir(exist_ok=True)
            files = [*all_files(part, spec["family"]), *(name for name in (RECORD, LOSS, DELTA) if (part / name).is_file())]
            write_json(part / MANIFEST, "prior", params(spec), {"sha256": {name: digest(part / name) for name in files}})
            for name in (*files[1:], MANIFEST, INDEX):  # the index last: it stands for the whole
                (folder / name).parent.mkdir(exist_ok=True)
                (part / name).replace(folder / name)
            for name in (LOSS, DELTA):  # of what stood here before
                if name not in files:
                    (folder / name).unlink(missing_ok=True)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _copy(spec: Spec, part: Path) -> None:
    """A folder in the stored layout is copied; hub names, shards and variants are loaded and saved in it."""
    local, kind, other = package_path(spec["weights"]), family(spec["family"]), spec.get("vae")
    # a dtype as text would be ignored; None: torch's own files too, which are read without executing what is in them
    load = {**spec["load"], "dtype": getattr(torch, spec["load"]["dtype"]), "use_safetensors": None}
    if local.is_dir() and spec["family"] == "dit":
        class_table(local)
    # refuses missing files and other architectures before anything is copied
    pipe = kind.load(str(local if local.is_dir() else spec["weights"]), **load)
    text = json.dumps({"weights": spec["weights"]})
    whole = all((local / name).is_file() for name in FILES[spec["family"]])
    if whole and spec["load"].get("t5", True):
        for name in all_files(local, spec["family"]):
            (part / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(local / name, part / name)
        if (local / RECORD).is_file():
            text = (local / RECORD).read_text()
    else:
        pipe.save_pretrained(part, max_shard_size="1000GB")
        forget_places(part)
    if other:
        _exchange_vae(part, other, pipe, load["dtype"])
    (part / RECORD).write_text(text)


def _exchange_vae(part: Path, name: str, pipe: Any, dtype: torch.dtype) -> None:
    """Another VAE in place of a prior's own."""
    folder = local_folder(name)
    try:
        vae = AutoencoderKL.from_pretrained(vae_folder(folder) if folder else name, dtype=dtype, low_cpu_mem_usage=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise LimbeckError(f"priors.*.vae: no VAE in diffusers' layout: {name} ({' '.join(str(error).split())[:300]})") from None
    has, takes = vae.config.latent_channels, pipe.vae.config.latent_channels
    if has != takes:
        raise LimbeckError(f"priors.*.vae: {name} has latents of {has} channels, the prior takes {takes}; name another")
    shutil.rmtree(part / "vae")
    vae.save_pretrained(part / "vae", max_shard_size="1000GB")
    forget_places(part)


def forget_places(folder: Path) -> None:
    """Take out of a saved pipeline's configurations where it was loaded from, which would make equal priors differ."""
    for path in folder.glob("*/config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _train(spec: Spec, images: Sequence[Path], part: Path) -> None:
    from diffusers import DDPMScheduler

    from limbeck.priors.training import encode_means, reconstruction_error, train_dit, train_vae

    cfg = PriorTraining.model_validate(spec["train"])
    pixels, labels = read_all(images, IMAGES, "images", "labels")
    classes = classes_of(images[0])
    with progress("vae") as report:
        vae, vae_history = train_vae(pixels, cfg.vae, report)
    latents = encode_means(vae, pixels) * vae.config.scaling_factor
    with progress("dit") as report:
        model, dit_history = train_dit(
            latents, torch.from_numpy(labels.astype(np.int64)), len(classes), cfg.dit, DDPMScheduler.from_config(SCHEDULER), report
        )
    dtype = getattr(torch, cfg.dtype)
    dit.save(part, model.to(dtype), vae.to(dtype), SCHEDULER, dict(enumerate(classes)))
    record = {
        "params": params(spec),
        "images": len(pixels),
        "train_mse": reconstruction_error(vae.float(), pixels[:: max(1, len(pixels) // 5000)]),
        "vae_loss": vae_history,
        "dit_loss": dit_history,
    }
    (part / RECORD).write_text(json.dumps(record, indent=1))
