"""CLIP's image embeddings as features (CoDA Sec. 5, "Transferring CoDA to Different Encoders"; Table 10)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers import CLIPVisionModelWithProjection

from limbeck.metrics.hf import HfExtractor


class ClipExtractor(HfExtractor):
    """Of a CLIP's two towers the one for images, with its projection."""

    @staticmethod
    def load(folder: Path, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """Also from the files of both towers."""
        return CLIPVisionModelWithProjection.from_pretrained(folder, **options)

    @staticmethod
    def pooled(output: Any) -> Tensor:
        """(n, dim) embeddings."""
        return output["image_embeds"]


def load(spec: Mapping[str, Any], teacher: None = None, record: None = None) -> ClipExtractor:  # noqa: ARG001
    """The extractor that a job's spec names."""
    return ClipExtractor(spec["weights"], f"extractors.{spec['extractor']}.weights")
