"""Text-to-image priors with a UNet: Stable Diffusion 1.x and 2.x, SDXL, and SDXL's refiner behind it."""

from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from torch import Tensor

from limbeck.errors import LimbeckError
from limbeck.priors.base import load_pipeline
from limbeck.priors.text import Embedded, TextPrior, encoded

AESTHETIC = (6.0, 2.5)  # the refiner's scores of prompt and negative prompt, diffusers' defaults


class SdPrior(TextPrior):
    """Stable Diffusion 1.5 and its relatives: one text encoder."""

    @staticmethod
    def load(name: str, **options: Any) -> StableDiffusionPipeline:
        """The pipeline in a folder or under a hub name, without its safety checker."""
        absent = ("safety_checker", "feature_extractor", "image_encoder")
        return load_pipeline(StableDiffusionPipeline, name, absent, requires_safety_checker=False, **options)

    def embed(self, prompt: str | None) -> Embedded:
        return encoded(self.pipe, prompt, pooled=False)

    def forward(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.pipe.unet(x, t, encoder_hidden_states=self.conditions(labels)["hidden"]).sample, None


class SdxlPrior(TextPrior):
    """SDXL: two text encoders, pooled text and image sizes as added conditions; a refiner may take over the last part.

    refiner: folder of a stored ``sdxl_refiner``. refiner_start: share of the training timesteps after which it denoises, as
    diffusers' ``denoising_start``.
    """

    def __init__(
        self,
        folder: Path | str,
        size: int,
        prompt: str = "{name}",
        refiner: Path | str | None = None,
        refiner_start: float = 0.8,
        **arithmetic: Any,
    ):
        super().__init__(folder, size, prompt, **arithmetic)
        self.refiner = SdxlRefiner(refiner, size, prompt, **arithmetic) if refiner else None
        self._sizes = torch.tensor([size, size, 0.0, 0.0, size, size])
        steps = self.pipe.scheduler.config.num_train_timesteps
        self._cutoff = round(steps - refiner_start * steps)

    @staticmethod
    def load(name: str, **options: Any) -> StableDiffusionXLPipeline:
        """The pipeline in a folder or under a hub name."""
        return load_pipeline(StableDiffusionXLPipeline, name, ("feature_extractor", "image_encoder"), **options)

    def class_ids(self, classes: Any) -> list[int]:
        if self.refiner:
            self.refiner.class_ids(classes)
        return super().class_ids(classes)

    def embed(self, prompt: str | None) -> Embedded:
        return {**encoded(self.pipe, prompt, pooled=True), "ids": self._sizes}

    def forward(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.refiner and t < self._cutoff:
            return self.refiner.forward(x, t, labels)
        return _conditioned(self.pipe.unet, x, t, self.conditions(labels)), None


class SdxlRefiner(TextPrior):
    """SDXL's refiner: the second text encoder alone, an aesthetic score in place of the target size. Not used by itself."""

    def __init__(self, folder: Path | str, size: int, prompt: str = "{name}", **arithmetic: Any):
        super().__init__(folder, size, prompt, **arithmetic)
        if not self.pipe.config.get("requires_aesthetics_score"):
            raise LimbeckError(f"prior {folder}: not a refiner of SDXL (it asks for no aesthetic score); set its family to sdxl")
        self._sizes = [float(size), float(size), 0.0, 0.0]

    @staticmethod
    def load(name: str, **options: Any) -> StableDiffusionXLImg2ImgPipeline:
        """The pipeline in a folder or under a hub name."""
        absent = ("feature_extractor", "image_encoder")
        return load_pipeline(StableDiffusionXLImg2ImgPipeline, name, absent, **options)

    def embed(self, prompt: str | None) -> Embedded:
        score = AESTHETIC[prompt is None]
        return {**encoded(self.pipe, prompt, pooled=True), "ids": torch.tensor([*self._sizes, score])}

    def forward(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        return _conditioned(self.pipe.unet, x, t, self.conditions(labels)), None


def _conditioned(unet: Any, x: Tensor, t: float | Tensor, found: Embedded) -> Tensor:
    added = {"text_embeds": found["pooled"], "time_ids": found["ids"]}
    return unet(x, t, encoder_hidden_states=found["hidden"], added_cond_kwargs=added).sample
