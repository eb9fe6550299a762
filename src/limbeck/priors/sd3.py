"""Stable Diffusion 3: a flow-matching transformer on CLIP's and T5's embeddings; it predicts the velocity eps - z0."""

from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor

from limbeck.diffusion.schedule import Schedule
from limbeck.priors.base import load_pipeline
from limbeck.priors.text import Embedded, TextPrior, encoded


class Sd3Prior(TextPrior):
    """SD3 and SD3.5; without T5, where the stored prior has none, its embeddings are zeros."""

    @staticmethod
    def load(name: str, t5: bool = True, **options: Any) -> StableDiffusion3Pipeline:
        """The pipeline in a folder or under a hub name."""
        absent = ["feature_extractor", "image_encoder", *([] if t5 else ["text_encoder_3", "tokenizer_3"])]
        return load_pipeline(StableDiffusion3Pipeline, name, absent, **options)

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.scheduler("flow", 1))

    def embed(self, prompt: str | None) -> Embedded:
        return encoded(self.pipe, prompt, pooled=True, prompt_2=None, prompt_3=None)

    def forward(self, x: Tensor, t: float | Tensor, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        found = self.conditions(labels)
        timestep = torch.as_tensor(t).expand(len(x)).to(x.device)
        out = self.pipe.transformer(x, timestep=timestep, encoder_hidden_states=found["hidden"], pooled_projections=found["pooled"])
        return out.sample, None
