"""Class-conditional DiT priors in diffusers' layout: the embedded one, ``facebook/DiT-XL-2-256``, or one of your own."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, DiTPipeline, DiTTransformer2DModel
from diffusers.utils.logging import disable_progress_bar
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.priors import schedulers
from limbeck.priors.files import class_table, match_classes

logging.getLogger("diffusers").setLevel(logging.ERROR)  # its advice about optional packages
disable_progress_bar()


def load_pipeline(name: str) -> DiTPipeline:
    """A DiT pipeline from a local folder or a hub name, as float32.

    Raises
    ------
    LimbeckError: nothing there, files missing, or another architecture.
    """
    try:
        pipe = DiTPipeline.from_pretrained(name, dtype=torch.float32, use_safetensors=True, low_cpu_mem_usage=False)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        text = " ".join(str(error).split())[:300]
        raise LimbeckError(
            f"prior {name}: not a DiT in diffusers' layout, neither as a folder nor as a hub name ({text})"
        ) from None
    if pipe.scheduler.config.get("prediction_type", "epsilon") != "epsilon":
        raise LimbeckError(f"prior {name}: predicts {pipe.scheduler.config.prediction_type}, only 'epsilon' is supported for DiT")
    return pipe


def save(
    folder: Path, transformer: DiTTransformer2DModel, vae: AutoencoderKL, scheduler_config: dict[str, Any], id2label: dict[int, str]
) -> None:
    """Write a DiT pipeline in diffusers' layout, with its class table in model_index.json."""
    scheduler = DDIMScheduler.from_config(scheduler_config)
    pipe = DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler)
    pipe.register_to_config(id2label={str(k): v for k, v in id2label.items()})
    pipe.save_pretrained(folder, safe_serialization=True)


class DitPrior:
    """A loaded DiT with its VAE; see :class:`limbeck.priors.base.Prior`."""

    def __init__(self, folder: Path | str):
        self.name = str(folder)
        pipe = load_pipeline(str(folder))
        self.transformer = pipe.transformer.eval().requires_grad_(False)
        self.vae = pipe.vae.eval().requires_grad_(False)
        self._scheduler_config = dict(pipe.scheduler.config)
        config = self.transformer.config
        self.latent_shape = (config.in_channels, config.sample_size, config.sample_size)
        self.null = config.num_embeds_ada_norm
        self._shift = getattr(self.vae.config, "shift_factor", None) or 0.0

    @torch.inference_mode()
    def encode(self, images: np.ndarray) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        wanted = self.vae.config.in_channels
        if x.shape[1] == 1 and wanted == 3:
            x = x.expand(-1, 3, -1, -1)
        if x.shape[1] != wanted:
            raise LimbeckError(
                f"prior {self.name}: its VAE takes {wanted} channels, the images have {x.shape[1]}; set datasets.*.channels"
            )
        means = self.vae.encode(x).latent_dist.mean
        if means.shape[1:] != self.latent_shape:
            raise LimbeckError(
                f"prior {self.name}: images of side {images.shape[1]} give latents {tuple(means.shape[1:])}, "
                f"its transformer takes {self.latent_shape}; choose a view of another size"
            )
        return (means - self._shift) * self.vae.config.scaling_factor

    @torch.inference_mode()
    def decode(self, latents: Tensor, channels: int) -> np.ndarray:
        x = self.vae.decode(latents / self.vae.config.scaling_factor + self._shift).sample
        if x.shape[1] == 3 and channels == 1:
            x = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        return x.permute(0, 2, 3, 1).contiguous().numpy()

    def class_ids(self, classes: Sequence[str]) -> list[int]:
        return match_classes(class_table(self.name), classes, self.name)

    @torch.inference_mode()
    def denoise(self, x: Tensor, t: int, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        timestep = torch.full((len(x),), t, dtype=torch.long)
        out = self.transformer(x, timestep=timestep, class_labels=labels).sample
        channels = x.shape[1]
        return out[:, :channels], (out[:, channels:] if out.shape[1] > channels else None)

    def scheduler(self, solver: str, steps: int) -> DDIMScheduler | DDPMScheduler:
        learned = self.transformer.out_channels == 2 * self.latent_shape[0]
        return schedulers.build(self._scheduler_config, solver, steps, learned)
