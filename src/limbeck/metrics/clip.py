"""CLIP's image embeddings as features (CoDA Sec. 5, "Transferring CoDA to Different Encoders"; Table 10)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionModelWithProjection

# by its own name: CLIPImageProcessor asks for torchvision
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.utils import logging

from limbeck.data.sources import local_folder
from limbeck.errors import LimbeckError
from limbeck.metrics.clip_files import CLIP_FILES, clip_files

logging.set_verbosity_error()  # its report on the text tower's weights, which are not loaded
logging.disable_progress_bar()


class ClipExtractor:
    """See ``limbeck.components.EXTRACTORS``. Float32 whatever the weights are stored as; grayscale is repeated to RGB.

    Raises
    ------
    LimbeckError: files missing, unreadable, or not those of a CLIP; ``key`` is the config's.
    """

    classifies = False
    size = None  # the image processor that belongs to the weights resizes

    def __init__(self, weights: str, key: str):
        folder = local_folder(weights) or _fetched(weights, key)
        self.files = {name: folder / name for name in clip_files(folder, key)}
        try:
            self.processor = CLIPImageProcessorPil.from_pretrained(folder)
            model, loaded = CLIPVisionModelWithProjection.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
            )
        except Exception as error:  # safetensors raises its own
            raise LimbeckError(f"{key}: cannot load a CLIP from {folder} ({' '.join(str(error).split())[:300]})") from None
        if loaded["missing_keys"]:  # they would be random numbers
            lacking = sorted(loaded["missing_keys"])
            raise LimbeckError(f"{key}: the weights in {folder} are incomplete: no {lacking[0]} and {len(lacking) - 1} more")
        self.model = model.eval().requires_grad_(False)
        self.dim = int(self.model.config.projection_dim)

    @torch.inference_mode()
    def batches(self, images: np.ndarray, size: int = 50) -> Iterator[tuple[np.ndarray, None]]:
        """Image embeddings (n, dim) of uint8 images (N, H, W, C), a batch at a time; it classifies nothing."""
        for start in range(0, len(images), size):
            pictures = [Image.fromarray(i[..., 0] if i.shape[-1] == 1 else i).convert("RGB") for i in images[start : start + size]]
            pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"]
            yield self.model(pixel_values=pixels).image_embeds.numpy(), None


def load(spec: Mapping[str, Any], teacher: None = None, record: None = None) -> ClipExtractor:  # noqa: ARG001
    """The extractor that a job's spec names."""
    return ClipExtractor(spec["weights"], f"extractors.{spec['extractor']}.weights")


def _fetched(name: str, key: str) -> Path:
    """The folder of a hub name's files, fetched where the hub can be reached."""
    from huggingface_hub import constants, snapshot_download

    wanted = [name for names in CLIP_FILES for name in names]
    try:
        return Path(snapshot_download(name, allow_patterns=[*wanted, "model-*.safetensors"]))
    except (OSError, ValueError) as error:
        needed = ", ".join(" or ".join(names) for names in CLIP_FILES)
        raise LimbeckError(
            f"{key}: {name} is neither a folder here nor can be fetched ({type(error).__name__}); {needed} are looked for in "
            f"{constants.HF_HUB_CACHE}"
        ) from None
