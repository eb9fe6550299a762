"""Class-conditional DiT priors in diffusers' layout: the embedded one, ``facebook/DiT-XL-2-256``, or one of your own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, DiTPipeline, DiTTransformer2DModel
from torch import Tensor

from limbeck.diffusion.schedule import Schedule
from limbeck.errors import LimbeckError
from limbeck.priors import schedulers
from limbeck.priors.arithmetic import Arithmetic
from limbeck.priors.base import VaePrior, load_pipeline, vae_factor
from limbeck.priors.files import class_table, match_classes


def save(
    folder: Path, transformer: DiTTransformer2DModel, vae: AutoencoderKL, scheduler_config: dict[str, Any], id2label: dict[int, str]
) -> None:
    """Write a DiT pipeline in diffusers' layout, with its class table in model_index.json."""
    scheduler = DDIMScheduler.from_config(scheduler_config)
    pipe = DiTPipeline(transformer=transformer, vae=vae, scheduler=scheduler)
    pipe.register_to_config(id2label={str(k): v for k, v in id2label.items()})
    pipe.save_pretrained(folder, safe_serialization=True)


class DitPrior(VaePrior):
    """A loaded DiT with its VAE; see :class:`limbeck.priors.base.Prior`. It knows images of one size only."""

    def __init__(self, folder: Path | str, size: int | None = None, **arithmetic: Any):
        how = Arithmetic(**arithmetic)
        pipe = self.load(str(folder), **how.load)
        config = pipe.transformer.config
        super().__init__(str(folder), pipe.vae, size or config.sample_size * vae_factor(pipe.vae.config), how)
        self.transformer = how.ready(pipe.transformer, self.device)
        self._scheduler_config = dict(pipe.scheduler.config)
        takes = (config.in_channels, config.sample_size, config.sample_size)
        if self.latent_shape != takes:
            raise LimbeckError(
                f"prior {folder}: images of side {size} give latents {self.latent_shape}, its transformer takes {takes}; "
                "choose a view of another size"
            )
        self.null = config.num_embeds_ada_norm

    @staticmethod
    def load(name: str, **options: Any) -> DiTPipeline:
        """The pipeline in a folder or under a hub name."""
        pipe = load_pipeline(DiTPipeline, name, **options)
        prediction = pipe.scheduler.config.get("prediction_type", "epsilon")
        if prediction != "epsilon":
            raise LimbeckError(f"prior {name}: predicts {prediction}, only 'epsilon' is supported for DiT")
        return pipe

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.scheduler("ddim", 1))

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        return list(self.transformer.transformer_blocks)

    def class_ids(self, classes: Sequence[str]) -> list[int]:
        return match_classes(class_table(self.name), classes, self.name)

    def forward(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        timestep = torch.as_tensor(t).long().expand(len(x)).to(x.device)
        out = self.transformer(x, timestep=timestep, class_labels=labels.to(x.device)).sample
        channels = x.shape[1]
        return out[:, :channels], (out[:, channels:] if out.shape[1] > channels else None)

    def scheduler(self, solver: str, steps: int) -> schedulers.Scheduler:
        learned = self.transformer.out_channels == 2 * self.latent_shape[0]
        return schedulers.build(self._scheduler_config, solver, steps, learned)
