"""What can be said of a prior's files before any job: json, file sizes and headers alone, so that planning stays fast.

A half-downloaded file is shorter than its own header says; another architecture shows in the configurations and, for a DiT, in the
shapes that the header of its weights lists.
"""

import json
import re
import zipfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from limbeck.priors.files import FILES, INDEX, OPTIONAL, SCHEDULER, all_files

Header = dict[str, Any]
UNET = "UNet2DConditionModel"
# the folder of a family's denoiser, and the classes whose configurations it may have
DENOISERS: dict[str, tuple[str, tuple[str, ...]]] = {
    # Transformer2DModel: what DiT-XL/2's own configuration says
    "dit": ("transformer", ("DiTTransformer2DModel", "Transformer2DModel")),
    "sd": ("unet", (UNET,)),
    "sdxl": ("unet", (UNET,)),
    "sdxl_refiner": ("unet", (UNET,)),
    "sd3": ("transformer", ("SD3Transformer2DModel",)),
}
VAES = ("AutoencoderKL",)
MODEL = "diffusion_pytorch_model.safetensors"
# what json of other kinds than diffusers' raises where it is read
ODD = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError)
ADDED = "text_time"  # SDXL's conditions, which tell its UNet from Stable Diffusion's
TABLE = "transformer_blocks.0.norm1.emb.class_embedder.embedding_table.weight"


def hub_folder(name: str) -> Path | None:
    """Where the hub's cache has a model; None where it has none."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    try:
        return cache / "snapshots" / (cache / "refs/main").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def cache_alone(offline: bool) -> str | None:
    """Where alone the hub's models are looked for; None where they are fetched. offline: the config's key."""
    from huggingface_hub import constants

    return str(constants.HF_HUB_CACHE) if offline or constants.HF_HUB_OFFLINE else None


def not_cached(name: str, cache: str) -> str:
    """Why a model under a hub name cannot be had offline, in one line; cache: what ``cache_alone`` says."""
    said = "and is not fetched offline: set offline: false (and no HF_HUB_OFFLINE in the environment), or name a folder"
    return f"{name} is no folder, nor in the hub's cache {cache}, {said}"


def has_optional(folder: Path, family: str) -> bool:
    """Whether the index in a folder lists what only some priors of a family have."""
    return not _listed(folder).isdisjoint(name.split("/")[0] for name in OPTIONAL.get(family, ()))


def missing_files(folder: Path, family: str, variant: str | None = None, t5: bool = True) -> list[str]:
    """Files without which no prior of the family can be loaded from a folder.

    Weights may be sharded, carry the ``variant``'s name (``model.fp16.safetensors``) or be in torch's own format (``.bin``);
    tokenizers may be in the older layout. t5: whether what the index has beyond the family's files is needed too.
    """
    missing = [name for name in (INDEX, SCHEDULER) if not (folder / name).is_file()]
    parts = _listed(folder) if t5 else set()
    optional = [name for name in OPTIONAL.get(family, ()) if name.split("/")[0] in parts]
    for name in (*FILES[family][2:], *optional):
        part, file = name.split("/")
        if "tokenizer" in part:
            missing += [] if (folder / part / "tokenizer_config.json").is_file() else [f"{part}/tokenizer_config.json"]
        elif not file.endswith(".safetensors"):
            missing += [] if (folder / name).is_file() else [name]
        else:
            missing += _missing_weights(folder / part, file, variant)
    return list(dict.fromkeys(missing))


def weight_files(part: Path, file: str, variant: str | None = None) -> list[Path]:
    """The files in a component's folder that the weights named ``file`` are loaded from, shards that are not there included."""
    torch_file = "pytorch_model.bin" if file == "model.safetensors" else file.replace(".safetensors", ".bin")
    # what a component does not have in a variant is loaded without
    for name, mark in product((file, torch_file), (f".{variant}", "") if variant else ("",)):
        stem, suffix = name.rsplit(".", 1)
        if (whole := part / f"{stem}{mark}.{suffix}").is_file():
            return [whole]
        if (index := part / f"{name}.index{mark}.json").is_file():
            try:
                return [part / shard for shard in sorted(set(_read(index)["weight_map"].values()))]
            except (ValueError, KeyError, AttributeError, TypeError):
                return [index]
    return []


def complaint(folder: Path, family: str, variant: str | None = None, t5: bool = True, partial: bool = False) -> str | None:
    """Why a prior cannot be loaded from a folder, in one line; None where nothing is seen that forbids it.

    partial: what is missing will be fetched.
    """
    try:
        return _complaint(folder, family, variant, t5, partial)
    except ODD as error:
        return _odd(folder, error)


def _odd(folder: Path, error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{folder}: a file of json in it is not as diffusers writes it ({type(error).__name__}: {said}): fetch it again"


def _complaint(folder: Path, family: str, variant: str | None, t5: bool, partial: bool) -> str | None:
    if lost := missing_files(folder, family, variant, t5):
        listed = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
        return None if partial else f"missing in {folder}: {listed}"
    for name in FILES[family][2:]:
        part, file = name.split("/")
        if file.endswith(".safetensors"):
            for path in weight_files(folder / part, file, variant):
                if said := damage(path):
                    return said
    if said := _architecture(folder, family):
        return said
    factor(folder / "vae")  # what is asked later can be answered
    if family == "dit":
        native_size(folder, folder / "vae")
        return _misshapen(folder, variant)
    return None


def loaded_files(folder: Path, family: str, variant: str | None = None, t5: bool = True) -> list[Path]:
    """The files of a folder that a prior is loaded from, as far as they are there."""
    names = all_files(folder, family)
    optional = {name.split("/")[0] for name in OPTIONAL.get(family, ())}
    found: list[Path] = []
    for name in names if t5 else [name for name in names if name.split("/")[0] not in optional]:
        path = folder / name
        found += weight_files(path.parent, path.name, variant) if path.suffix == ".safetensors" else [path]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def vae_files(folder: Path) -> list[Path]:
    """What the VAE in a folder is loaded from."""
    return [folder / "config.json", *weight_files(folder, MODEL)]


def vae_complaint(folder: Path, family: str, prior: Path | None) -> str | None:
    """Why the VAE in a folder (``vae_folder``) cannot stand in for the one of the prior in another, as :func:`complaint`."""
    try:
        return _vae_complaint(folder, family, prior)
    except ODD as error:
        return _odd(folder, error)


def _vae_complaint(folder: Path, family: str, prior: Path | None) -> str | None:
    if not (folder / "config.json").is_file():
        return f"missing in {folder}: config.json"
    if lost := _missing_weights(folder, MODEL, None):
        return f"missing in {folder}: {', '.join(lost)}"
    if said := next(filter(None, map(damage, weight_files(folder, MODEL))), None) or _is_of(folder, VAES, "a VAE"):
        return said
    factor(folder)
    if prior is None or not (config := prior / DENOISERS[family][0] / "config.json").is_file():
        return None
    has, takes = _read(folder / "config.json").get("latent_channels"), _read(config).get("in_channels")
    return f"{folder} has latents of {has} channels, the denoiser in {prior} takes {takes}" if has != takes else None


def vae_folder(folder: Path) -> Path:
    """A VAE's own folder: the one given, or ``vae`` in that of a whole prior."""
    return folder / "vae" if (folder / "vae/config.json").is_file() else folder


def factor(vae: Path) -> int:
    """Side of an image over side of its latent, of the VAE in a folder."""
    widths = _read(vae / "config.json")["block_out_channels"]
    if not (isinstance(widths, list) and widths):
        raise ValueError(f"block_out_channels is {widths!r}")
    return int(2 ** (len(widths) - 1))


def native_size(folder: Path, vae: Path) -> int:
    """The side of the images that the DiT in a folder takes with the VAE in another, from their configurations."""
    return int(_read(folder / "transformer/config.json")["sample_size"]) * factor(vae)


def damage(path: Path) -> str | None:
    """Why a file of weights cannot be whole, in one line; None where its length is what it says itself."""
    if not path.is_file():
        return f"missing: {path}"
    if path.suffix == ".json":
        return f"{path} lists no weights: fetch it again"
    if path.suffix == ".bin":
        # torch's files are zips, whose directory stands at the end
        return None if zipfile.is_zipfile(path) else f"{path} is no whole file of weights (half-downloaded?): fetch it again"
    size = path.stat().st_size
    try:
        header, start = _header(path)
        wanted = start + max((value["data_offsets"][1] for key, value in header.items() if key != "__metadata__"), default=0)
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError):
        return f"{path} is no whole file of weights, {size} bytes without a readable header (half-downloaded?): fetch it again"
    return f"{path} has {size} of its {wanted} bytes (half-downloaded?): fetch it again" if size != wanted else None


def _missing_weights(part: Path, file: str, variant: str | None) -> list[str]:
    found = weight_files(part, file, variant)
    if not found:
        return [f"{part.name}/{file.replace('.safetensors', f'.{variant}.safetensors') if variant else file}"]
    return [f"{part.name}/{path.name}" for path in found if not path.is_file()]


def _listed(folder: Path) -> set[str]:
    """The components that a prior's index has."""
    try:
        index = _read(folder / INDEX)
    except (OSError, ValueError):
        return set()
    return {key for key, value in index.items() if isinstance(value, list) and value[:1] not in ([], [None])}


def _architecture(folder: Path, family: str) -> str | None:
    """What tells from the configurations that the components are others than the family's, or do not fit each other."""
    name, classes = DENOISERS[family]
    said = _is_of(folder / name, classes, f"family {family}") or _is_of(folder / "vae", VAES, f"family {family}")
    if said:
        return said
    denoiser, vae = (_read(folder / part / "config.json") for part in (name, "vae"))
    if name == "unet" and (denoiser.get("addition_embed_type") == ADDED) != family.startswith("sdxl"):
        other = "of Stable Diffusion, without SDXL's added conditions" if family.startswith("sdxl") else "one of SDXL's"
        return f"{folder}/unet is {other}; family is {family}, set priors.*.family to what it is"
    if family == "sdxl_refiner" and not _read(folder / INDEX).get("requires_aesthetics_score"):
        return f"{folder} is no refiner of SDXL (it asks for no aesthetic score); set its family to sdxl"
    takes, has = denoiser.get("in_channels"), vae.get("latent_channels")
    return f"{folder}/{name} takes latents of {takes} channels, its vae has {has}" if takes != has else None


def _is_of(part: Path, classes: tuple[str, ...], what: str) -> str | None:
    try:
        found = _read(part / "config.json").get("_class_name")
    except (ValueError, AttributeError):
        return f"{part}/config.json is no configuration (half-downloaded?): fetch it again"
    return None if found in classes else f"{part}/config.json is of a {found}, {what} has a {classes[0]}"


def _misshapen(folder: Path, variant: str | None) -> str | None:
    """A DiT whose weights are not of its configuration, or whose class table has fewer rows than classes are named."""
    config, part = _read(folder / "transformer/config.json"), folder / "transformer"
    blocks, width = config.get("num_layers", 28), config.get("num_attention_heads", 16) * config.get("attention_head_dim", 72)
    classes = config.get("num_embeds_ada_norm", 1000)
    shapes = dict(_shapes(weight_files(part, MODEL, variant)))
    if shapes:
        found = len({m[1] for name in shapes if (m := re.match(r"transformer_blocks\.(\d+)\.", name))})
        wide = shapes.get("pos_embed.proj.weight", [width])[0]
        if (found, wide) != (blocks, width):
            return f"{part}: its configuration is of {blocks} blocks of width {width}, its weights are {found} of width {wide}"
        if (rows := shapes.get(TABLE, [classes + 1])[0]) <= classes:
            return f"{part}: its configuration has {classes} classes and the null class, its weights have {rows}"
    named = _read(folder / INDEX).get("id2label", {})
    if named and (last := max(map(int, named))) >= classes:
        return f"{folder}/{INDEX} names class {last} in id2label, its transformer has {classes}"
    return None


def _shapes(files: list[Path]) -> Iterator[tuple[str, list[int]]]:
    for path in files:
        if path.suffix == ".safetensors":
            yield from ((key, value["shape"]) for key, value in _header(path)[0].items() if key != "__metadata__")


def _header(path: Path) -> tuple[Header, int]:
    """The header of a safetensors file, and where its data begins."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > path.stat().st_size - 8:
            raise ValueError("the header is longer than the file")
        return json.loads(file.read(length)), 8 + length


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
