"""Training protocols by name, as typed data: a number without its protocol's name means nothing.

A user's own stand in the config as a base and what differs (``protocols.NAME``). docs/PROTOCOLS.md is generated from here.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from limbeck.config import Model, Name
from limbeck.errors import LimbeckError, first_line
from limbeck.settings import Common, Crop, CutMix, Flip, Jitter, Lighting, MixUp, RandAugment, Settings, Shift, Shuffle

MORE = "more"  # the last entry of a table by IPC
Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0)]


class ByClasses(Model):
    """What changes for sets of so many classes."""

    at_least: int = Field(ge=2)
    at_most: Count | None = None
    epochs_factor: float = Field(1.0, gt=0, description="the product is floored to hundreds")
    batch_factor: int = Field(1, ge=1)
    lr: Rate | None = None
    weight_decay: float | None = Field(None, ge=0)
    batch_size: Count | None = None

    def holds(self, classes: int) -> bool:
        """Whether it is meant for so many."""
        return self.at_least <= classes <= (self.at_most or classes)


class Protocol(Common):
    """How a classifier is trained on a set. Tables by IPC: the entry of the least IPC that is not below the set's."""

    source: str = Field("a protocol of the config", description="where it is from, and what is assumed")
    teacher: Name | None = Field(None, description="soft: who labels, of 'teachers'; null: run.teacher")
    batch_size: Count | dict[Count, Count] = Field(64, description="or {IPC: size}, linear in between; at most the set")
    lr: Rate | dict[str, Rate] = Field(description="or {family of student: rate}, 'other' for the rest")
    weight_decay: float = Field(5e-4, ge=0)
    epochs: Count | dict[Count | Literal["more"], Count] | None = Field(None, description="or a table by IPC")
    steps: Count | dict[Count | Literal["more"], Count] | None = Field(None, description="instead of epochs")
    by_classes: tuple[ByClasses, ...] = ()

    @model_validator(mode="after")
    def _sensible(self) -> "Protocol":
        if (self.epochs is None) == (self.steps is None):
            raise ValueError("needs one of 'epochs' and 'steps' (set the other to null)")
        for key in ("epochs", "steps"):
            table = getattr(self, key)
            if isinstance(table, dict) and MORE not in table:
                raise ValueError(f"{key}: a table by IPC needs the entry '{MORE}'")
        if isinstance(self.lr, dict) and "other" not in self.lr:
            raise ValueError("lr: rates by family of student need the entry 'other'")
        if self.labels == "hard" and self.teacher is not None:
            raise ValueError(f"teacher {self.teacher!r} labels nothing where labels are hard; set labels: soft")
        return self

    @property
    def augmented(self) -> bool:
        """Whether a student sees anything but the images as they are."""
        return bool(self.augment) or self.mix is not None

    def settings(self, ipc: int, classes: int, family: str, tiles: int = 1) -> Settings:
        """Resolved for a set of ``ipc`` images per class (mosaics of ``tiles`` x ``tiles``, 1: none) and a family of students."""
        common = {key: getattr(self, key) for key in Common.model_fields}
        shuffled = [a.model_copy(update={"factor": tiles}) if isinstance(a, Shuffle) else a for a in self.augment]
        common["augment"] = tuple(a for a in shuffled if not (isinstance(a, Shuffle) and tiles == 1))
        numbers: dict[str, Any] = {
            "batch_size": self.batch_size if isinstance(self.batch_size, int) else interpolated(self.batch_size, ipc),
            "lr": self.lr if isinstance(self.lr, float) else self.lr.get(family, self.lr["other"]),
            "weight_decay": self.weight_decay,
            "epochs": _at(self.epochs, ipc),
            "steps": _at(self.steps, ipc),
        }
        for rule in self.by_classes:
            if rule.holds(classes):
                numbers |= rule.model_dump(include={"lr", "weight_decay", "batch_size"}, exclude_none=True)
                numbers["batch_size"] *= rule.batch_factor
                if numbers["epochs"] and rule.epochs_factor != 1:
                    numbers["epochs"] = max(100, math.floor(numbers["epochs"] * rule.epochs_factor / 100) * 100)
        numbers["batch_size"] = min(numbers["batch_size"], ipc * classes)
        return Settings(**common, **numbers)


def _at(table: int | Mapping[Any, int] | None, ipc: int) -> int | None:
    """The entry of a table by IPC: that of the least limit that is not below ``ipc``."""
    if table is None or isinstance(table, int):
        return table
    limits = sorted(key for key in table if key != MORE and key >= ipc)
    return table[limits[0] if limits else MORE]


def interpolated(sizes: Mapping[int, int], ipc: int) -> int:
    """A batch size linear between the IPCs that are given, constant outside."""
    known = sorted(sizes)
    return round(float(np.interp(ipc, known, [sizes[key] for key in known])))


IMAGENET_224, IMAGENET_256 = 224, 256
# Minimax's order (EVALUATION.md): crop of half the area at least, flip, jitter, lighting
MINIMAX_VIEWS = (Crop(scale=(0.5, 1.0)), Flip(), Jitter(), Lighting())
MINIMAX_EPOCHS: dict[int | Literal["more"], int] = {1: 3000, 10: 2000, 50: 1500, 200: 1000, 500: 500, "more": 300}
# ASSUME: "for 100 classes" is exactly those, as ImageNet-100 is the only such set there
MINIMAX_CLASSES = (
    ByClasses(at_least=100, at_most=100, epochs_factor=2 / 3),
    ByClasses(at_least=101, lr=0.1, weight_decay=1e-4, batch_size=128),
)
SQUARE_VIEWS = (Crop(scale=(0.08, 1.0)), Flip())
# RDED's rates by architecture
RDED_RATES = {
    "convnet": 1e-3,
    "resnet": 1e-3,
    "vgg": 5e-4,
    "efficientnet": 2e-3,
    "mobilenet": 2.5e-3,
    "alexnet": 1e-4,
    "vit": 1e-4,
    "swin": 1e-4,
    "other": 1e-3,
}


def _minimax(size: int) -> Protocol:
    return Protocol(
        source=f"Minimax (Gu et al. 2024), the papers' common hard-label protocol, at {size} pixels: the text says 256, the "
        "code's default is 224",
        size=size,
        augment=MINIMAX_VIEWS,
        mix=CutMix(),
        batch_size=64,
        lr=0.01,
        weight_decay=5e-4,
        schedule="milestones",
        epochs=MINIMAX_EPOCHS,
        by_classes=MINIMAX_CLASSES,
    )


# The embedded benchmark's: chosen once on random real images with the training set as the judge, never tuned per method.
TINY = Protocol(
    source="the embedded benchmark's CPU protocol, chosen once on random real images with the training set as the judge",
    normalise="half",
    augment=(Shift(pixels=2),),
    mix=CutMix(),
    batch_size=25,
    lr=0.02,
    schedule_by="step",
    drop_last=True,
    steps={1: 1000, 10: 1200, 50: 1500, "more": 4000},
    evaluations=4,
)
SMOKE = Protocol(
    source="to see a whole run end in seconds; the numbers mean nothing",
    normalise="half",
    batch_size=20,
    lr=0.02,
    schedule_by="step",
    drop_last=True,
    steps=15,
    evaluations=2,
)

RDED = Protocol(
    source="RDED (Sun et al. 2024): the teacher's labels of every augmented image, KL at T = 20; half cosine",
    augment=(Shuffle(), *SQUARE_VIEWS),
    mix=CutMix(),
    optimiser="adamw",
    decay="matrices",
    batch_size={1: 10, 10: 50, 50: 100},
    lr=RDED_RATES,
    weight_decay=0.01,
    schedule="half_cosine",
    epochs=300,
    labels="soft",
    by_classes=(ByClasses(at_least=100, batch_factor=2),),
)
D3HR = Protocol(
    source="D3HR Table A1: AdamW 0.01, batch 128, crop and flip, cosine, T = 20; 300 epochs. "
    "Its code: lr 1e-3, batch {10: 50, 50: 100}",
    augment=SQUARE_VIEWS,
    optimiser="adamw",
    batch_size=128,
    lr=0.01,
    weight_decay=0.01,
    epochs=300,
    labels="soft",
)

PROTOCOLS: dict[str, Protocol] = {
    "minimax-hard-224": _minimax(IMAGENET_224),
    "minimax-hard-256": _minimax(IMAGENET_256),
    "ims3-hard": Protocol(
        # ASSUME: the text says epochs, SGD and cosine; the rate, batch and RandAugment are the release's; crop and flip the field's
        source="IMS3: 300 epochs, SGD, cosine; lr, batch size and RandAugment(1, 6) as released, the text is silent",
        size=IMAGENET_256,
        augment=(*SQUARE_VIEWS, RandAugment(operations=1, magnitude=6)),
        batch_size=64,
        lr=0.1,
        epochs=300,
    ),
    "d3hr-hard": Protocol(
        # ASSUME: it follows Minimax's setting (its Table 5) where EVALUATION.md names nothing else; AdamW's usual rate
        source="D3HR Table 5: Minimax's epochs and batches with AdamW, mixup and crops of 0.08 to 1, at 224 pixels",
        size=IMAGENET_224,
        augment=SQUARE_VIEWS,
        mix=MixUp(),
        optimiser="adamw",
        batch_size=64,
        lr=1e-3,
        weight_decay=0.01,
        epochs=MINIMAX_EPOCHS,
        by_classes=(MINIMAX_CLASSES[0],),
    ),
    "rded-soft": RDED,
    # so that a number says which size it is for: sets of larger images are brought to it
    "rded-soft-224": RDED.model_copy(
        update={"source": "rded-soft at 224 pixels, as RDED trains on ImageNet and its subsets", "size": IMAGENET_224}
    ),
    "d3hr-soft": D3HR,
    "d3hr-soft-400": D3HR.model_copy(update={"source": "d3hr-soft for CIFAR: D3HR Table A1 has 400 epochs there", "epochs": 400}),
    "d3hr-soft-1000": D3HR.model_copy(
        update={"source": "d3hr-soft with the 1,000 epochs of D3HR Table A6 (CIFAR)", "epochs": 1000}
    ),
    "fkd-soft": Protocol(
        source="FKD as SRe2L, D4M and patch selection use it: batch 1,024, AdamW 1e-3, full cosine, CutMix",
        augment=SQUARE_VIEWS,
        mix=CutMix(),
        optimiser="adamw",
        batch_size=1024,
        lr=1e-3,
        weight_decay=0.01,
        epochs=300,
        labels="soft",
    ),
    "tiny-hard": TINY,
    "tiny-plain": TINY.model_copy(
        update={"source": "tiny-hard without augmentation, for the augmentation-robust score", "augment": (), "mix": None}
    ),
    "tiny-soft": TINY.model_copy(
        update={
            "source": "tiny-hard's views and steps with RDED's labels and optimiser; not tuned",
            "labels": "soft",
            "optimiser": "adamw",
            "decay": "matrices",
            "lr": 1e-3,
            "weight_decay": 0.01,
        }
    ),
    "teacher": Protocol(
        source="a usual one for teachers on real images: SGD 0.1, 100 epochs, cosine, crop and flip",
        augment=SQUARE_VIEWS,
        batch_size=128,
        lr=0.1,
        weight_decay=1e-4,
        epochs=100,
    ),
    "tiny-teacher": Protocol(
        source="teachers of the embedded benchmark: 26 epochs of 5,000 images, 9 of 60,000",
        normalise="half",
        augment=(Shift(pixels=2),),
        batch_size=64,
        lr=0.03,
        schedule_by="step",
        drop_last=True,
        steps={500: 2000, "more": 8000},
        evaluations=1,
    ),
    "smoke": SMOKE,
    "smoke-soft": SMOKE.model_copy(update={"labels": "soft", "optimiser": "adamw", "lr": 1e-3, "mix": CutMix()}),
    "smoke-teacher": SMOKE.model_copy(update={"batch_size": 64, "lr": 0.03, "steps": 60, "evaluations": 1}),
}


def get(name: str, key: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> Protocol:
    """The protocol ``name``, of the config's ``own`` (a base and what differs from it) or built in.

    Raises
    ------
    LimbeckError: unknown, at the config's ``key``, or an option that does not fit.
    """
    own = own or {}
    if name in own and name in PROTOCOLS:
        # a number of that name would be another's
        raise LimbeckError(f"protocols.{name}: the name is built in; choose another, with base: {name}")
    options = dict(own.get(name, {"base": name}))
    base = options.pop("base", None)
    if base not in PROTOCOLS:
        if name in own:
            what = "missing" if base is None else f"{base!r} is no built-in protocol"
            raise LimbeckError(f"protocols.{name}.base: {what}; choose one of {sorted(PROTOCOLS)}")
        raise LimbeckError(f"{key}: unknown protocol {name!r}; choose one of {sorted({*PROTOCOLS, *own})}")
    replaced = {"steps": None} if options.get("epochs") else {"epochs": None} if options.get("steps") else {}
    try:
        return Protocol.model_validate({**PROTOCOLS[base].model_dump(), **replaced, **options})
    except ValidationError as error:
        raise LimbeckError(first_line(error, f"protocols.{name}")) from None
