"""Image models in transformers' layout as extractors: the pooled features below the classifier (ResNet, ViT, DINOv2, …)."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification
from transformers.utils import logging

from limbeck.data.paths import local_folder
from limbeck.devices import Fitting, device
from limbeck.errors import LimbeckError
from limbeck.metrics.files import LAYOUT, folder_files

logging.set_verbosity_error()  # its report on weights that are not loaded, such as CLIP's text tower
logging.disable_progress_bar()


class HfExtractor:
    """See ``limbeck.components.EXTRACTORS``. Float32 whatever the weights are stored as; grayscale is repeated to RGB.

    Raises
    ------
    LimbeckError: files missing, unreadable, or not those of an image model; ``key`` is the config's.
    """

    classifies = False
    size = None  # the image processor that belongs to the weights resizes

    def __init__(self, weights: str, key: str):
        folder = local_folder(weights) or _fetched(weights, key)
        self.files = {name: folder / name for name in folder_files(folder, key)}
        try:
            # the other backend asks for torchvision
            self.processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
            model, loaded = self.load(folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
        except Exception as error:  # safetensors raises its own
            raise LimbeckError(f"{key}: cannot load {folder} ({' '.join(str(error).split())[:300]})") from None
        if loaded["missing_keys"]:  # they would be random numbers
            lacking = sorted(loaded["missing_keys"])
            raise LimbeckError(f"{key}: the weights in {folder} are incomplete: no {lacking[0]} and {len(lacking) - 1} more")
        self.model, self._fitting = model.eval().requires_grad_(False).to(device()), Fitting()
        try:
            self.dim = self.features(np.zeros((1, 8, 8, 3), np.uint8)).shape[1]
        except Exception as error:
            raise LimbeckError(f"{key}: {folder} gives no features of an image ({' '.join(str(error).split())[:300]})") from None

    @staticmethod
    def load(folder: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """The model, and what was found of its weights; a classifier without its last layer."""
        names = AutoConfig.from_pretrained(folder).architectures or [""]
        if not names[0].endswith("ForImageClassification"):
            return AutoModel.from_pretrained(folder, **options)
        model, loaded = AutoModelForImageClassification.from_pretrained(folder, **options)
        heads = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == model.config.num_labels]
        model.set_submodule(heads[-1], nn.Identity())
        return model, loaded

    @staticmethod
    def pooled(output: Any) -> Tensor:
        """(n, dim) of the model's output."""
        found = output["logits"] if "logits" in output else output["pooler_output"]
        return found.flatten(1)

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> Tensor:
        """(n, dim) of uint8 images (n, H, W, C)."""
        pictures = [Image.fromarray(i[..., 0] if i.shape[-1] == 1 else i).convert("RGB") for i in images]
        x = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        return self.pooled(self.model(pixel_values=x)).cpu()

    def batches(self, images: np.ndarray, size: int = 50) -> Iterator[tuple[np.ndarray, None]]:
        """Features (n, dim) of uint8 images (N, H, W, C), a batch at a time; it classifies nothing."""
        for start in range(0, len(images), size):
            for found in self._fitting(self.features, images[start : start + size]):
                yield found.numpy(), None


def load(spec: Mapping[str, Any], teacher: None = None, record: None = None) -> HfExtractor:  # noqa: ARG001
    """The extractor that a job's spec names."""
    return HfExtractor(spec["weights"], f"extractors.{spec['extractor']}.weights")


def _fetched(name: str, key: str) -> Path:
    """The folder of a hub name's files, fetched where the hub can be reached."""
    from huggingface_hub import constants, snapshot_download

    wanted = [name for names in LAYOUT for name in names]
    try:
        return Path(snapshot_download(name, allow_patterns=[*wanted, "model-*.safetensors"]))
    except (OSError, ValueError) as error:
        needed = ", ".join(" or ".join(names) for names in LAYOUT)
        mode = " offline (the config's key, or HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else ""
        raise LimbeckError(
            f"{key}: {name} is neither a folder here nor can be fetched{mode} ({type(error).__name__}); {needed} are looked for in "
            f"{constants.HF_HUB_CACHE}"
        ) from None
