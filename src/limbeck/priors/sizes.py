"""How large a prior is, by the config and the headers of its files: light enough for the Snakefile."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limbeck.config import Prior

MB = 2.0**20


@dataclass(frozen=True)
class Size:
    """Of a prior loaded as float32.

    denoiser, all: parameters. width: channels per position of the latents, at the denoiser's first block. factor: pixels per
    position, along a side. channels: of the latents. vae: channels at the images' own resolution. blocks: repeated layers.
    """

    denoiser: float
    all: float
    width: float
    factor: int = 8
    channels: int = 4
    vae: int = 128
    blocks: int = 28

    def latent(self, side: int) -> int:
        """Floats of the latent of an image."""
        return self.channels * self.positions(side)

    def positions(self, side: int) -> int:
        """Places of that latent."""
        return math.ceil(side / self.factor) ** 2


# the published models' own numbers, for hub names whose files are not here yet; all of them with VAE and text encoders
HUB = {
    "dit": Size(675e6, 760e6, 1152 / 4),
    "sd": Size(860e6, 1070e6, 320),
    "sdxl": Size(2.57e9, 3.5e9, 320),
    "sdxl_refiner": Size(2.27e9, 3.1e9, 384),
    "sd3": Size(2.03e9, 7.7e9, 1536 / 4, channels=16, blocks=24),
}


def of(prior: Prior, folder: Path | None) -> Size:
    """The size of a prior that is trained, or lies in a folder, or has a hub name. What a folder does not tell is the hub's."""
    known = HUB[prior.family]
    if prior.train is not None:
        dit, trained = prior.train.dit, prior.train.vae
        width = dit.heads * dit.head_dim
        count = 18.0 * dit.layers * width**2  # attention, a fourfold MLP and its adaptive norms
        channels = trained.block_out_channels
        return Size(
            denoiser=count,
            all=count + 200 * max(channels) ** 2,
            width=width / dit.patch_size**2,
            factor=2 ** (len(channels) - 1),
            channels=trained.latent_channels,
            vae=channels[0],
            blocks=dit.layers,
        )
    if folder is None:
        return known
    counts = {part.name: _parameters(part) for part in sorted({file.parent for file in folder.glob("*/*.safetensors")})}
    if not counts:
        return known
    network = "unet" if "unet" in counts else "transformer"
    about, vae = _config(folder / network), _config(folder / "vae")
    widths = vae.get("block_out_channels") or (known.vae,)
    return Size(
        denoiser=counts.get(network, known.denoiser),
        all=sum(counts.values()),
        width=_width(about) or known.width,
        factor=2 ** (len(widths) - 1) if len(widths) > 1 else known.factor,
        channels=vae.get("latent_channels", known.channels),
        vae=widths[0],
        blocks=about.get("num_layers", known.blocks),
    )


def _width(config: dict[str, Any]) -> float:
    """Channels per position of a UNet, or of a transformer's patches shared out over their positions; 0 if it does not tell."""
    if "block_out_channels" in config:
        return float(config["block_out_channels"][0])
    width = config.get("num_attention_heads", 0) * config.get("attention_head_dim", 0)
    return float(width / config.get("patch_size", 1) ** 2)


def _config(folder: Path) -> dict[str, Any]:
    """A configuration's sizes: its positive numbers and lists of such; what is odd in it is refused where it is loaded."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    sizes = {key: value if isinstance(value, list) else [value] for key, value in found.items()} if isinstance(found, dict) else {}
    return {key: found[key] for key, values in sizes.items() if values and all(type(v) is int and v > 0 for v in values)}


def _parameters(folder: Path) -> int:
    """Of all tensors in a folder's safetensors, by their headers; a variant of the same weights may lie beside them."""
    totals = {"": 0, ".fp16": 0}
    for path in folder.glob("*.safetensors"):
        try:
            with open(path, "rb") as file:
                header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
            count = sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (OSError, ValueError, OverflowError, MemoryError, TypeError, KeyError):
            continue  # what is no safetensors is refused where it is read
        totals[".fp16" if ".fp16" in path.name else ""] += count
    return max(totals.values())
