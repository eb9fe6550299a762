"""What text-to-image priors share: class names become prompts, prompts become embeddings once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from torch import Tensor

from limbeck.diffusion.schedule import Schedule
from limbeck.priors import schedulers
from limbeck.priors.arithmetic import Arithmetic
from limbeck.priors.base import VaePrior
from limbeck.priors.prompts import prompts

KEPT = 64  # a tenth of a gigabyte at most, SD3's with T5 four times that
Embedded = dict[str, Tensor]  # hidden: (L, D); pooled: (P,), where the family has it


class TextPrior(VaePrior):
    """A prior that is asked for a class by a prompt; labels are the classes' places, ``null`` is the empty negative prompt."""

    null = -1

    def __init__(self, folder: Path | str, size: int, prompt: str = "{name}", **arithmetic: Any):
        how = Arithmetic(**arithmetic)
        self.pipe, self._template = self.load(str(folder), **how.load), prompt
        super().__init__(str(folder), self.pipe.vae, size, how)
        for module in self.pipe.components.values():
            if isinstance(module, torch.nn.Module):
                module.eval().requires_grad_(False).to(self.device)
        how.ready(self.pipe.unet if hasattr(self.pipe, "unet") else self.pipe.transformer, self.device)
        self._prompts: list[str] = []
        self._embedded: dict[int, Embedded] = {}

    @staticmethod
    def load(name: str, **options: Any) -> DiffusionPipeline:
        """The pipeline in a folder or under a hub name."""
        raise NotImplementedError

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.scheduler("ddim", 1))

    @property
    def blocks(self) -> Sequence[torch.nn.Module]:
        return list(self.pipe.unet.up_blocks if hasattr(self.pipe, "unet") else self.pipe.transformer.transformer_blocks)

    def class_ids(self, classes: Sequence[str]) -> list[int]:
        self._prompts = prompts(classes, self._template)
        self._embedded = {}
        return list(range(len(classes)))

    def embed(self, prompt: str | None) -> Embedded:
        """The embeddings of a prompt, or of the empty negative one (None)."""
        raise NotImplementedError

    def conditions(self, labels: Tensor) -> Embedded:
        """The embeddings of a batch, stacked. Those of the last KEPT classes are kept."""
        for label in sorted(set(labels.tolist())):
            # taken out and put back: the order is that of their last use
            found = self._embedded.pop(label, None)
            self._embedded[label] = found or self.embed(None if label == self.null else self._prompts[label])
        rows = [self._embedded[label] for label in labels.tolist()]
        for label in list(self._embedded)[:-KEPT]:
            del self._embedded[label]
        return {key: torch.stack([row[key] for row in rows]).to(self.device) for key in rows[0]}

    def scheduler(self, solver: str, steps: int) -> schedulers.Scheduler:
        return schedulers.build(dict(self.pipe.scheduler.config), solver, steps)


def encoded(pipe: Any, prompt: str | None, pooled: bool, **more: Any) -> Embedded:
    """``pipe.encode_prompt`` of one prompt, or its default for no negative prompt (SDXL's base: zeros)."""
    found = pipe.encode_prompt(
        prompt or "", device=pipe.vae.device, num_images_per_prompt=1, do_classifier_free_guidance=True, **more
    )
    which = 1 if prompt is None else 0
    return {"hidden": found[which][0], **({"pooled": found[which + 2][0]} if pooled else {})}
