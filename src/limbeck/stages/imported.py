"""imported: the distilled set that some other method left as an image folder, one shard of classes."""

from pathlib import Path

import numpy as np
from PIL import Image

from limbeck.artifacts import DISTILLED, IMAGES
from limbeck.config import View
from limbeck.data.decoding import decode
from limbeck.data.folders import class_files
from limbeck.data.preprocessing import apply_view
from limbeck.errors import LimbeckError
from limbeck.stages.common import Spec, header_of, params, progress
from limbeck.store import Artifact, create


def run(spec: Spec, images: Path, distilled: Path) -> None:
    """Write ``distilled``; a file that cannot be decoded is an error naming it.

    ``images`` is read for its class names and range alone. Neither the folder nor the method's name is recorded: the same images
    give the same bytes wherever they lie.
    """
    view, key = View.model_validate(spec["view"]), f"methods.{spec['method']}.path"
    with Artifact(images, IMAGES) as source:
        header = header_of(source)
    files = class_files(spec["path"], header["classes"], spec["ipc"], key)[slice(*header["class_range"])]
    n = len(files) * spec["ipc"]
    shapes = {"images": (n, view.size, view.size, spec["channels"]), "labels": (n,)}
    with create(distilled, DISTILLED, shapes, params(spec, "method", "path"), {}, **header) as out, progress("import") as report:
        for row, label in enumerate(range(*header["class_range"])):
            out.append("images", np.stack([_decoded(file, view, spec["channels"], key) for file in files[row]]))
            out.append("labels", np.full(spec["ipc"], label))
            report((row + 1) * spec["ipc"], n)


def _decoded(file: Path, view: View, channels: int, key: str) -> np.ndarray:
    try:
        return fitted(decode(file), view, channels)
    except ValueError as error:
        raise LimbeckError(f"{key}: {file} {error}; repair or replace it") from None


def fitted(image: Image.Image, view: View, channels: int) -> np.ndarray:
    """A decoded image as (size, size, channels) uint8; at the view's own size its pixels stay as they are.

    A view that pads, pads this too, so that its objects are as large as those of the real images. What does not fit, and every
    other view, takes Lanczos on the central square: a method's images are square, or nearly.
    """
    pads = view.resize == "pad" and max(image.size) <= view.size
    return apply_view(image, view if pads else View(size=view.size, resize="crop"), channels)
