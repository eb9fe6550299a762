"""What a training reads: augmentations and numbers, resolved for one set and student by a protocol (``limbeck.protocols``)."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from limbeck.config import Model


class Crop(Model):
    """Random resized crop: area and aspect ratio drawn as torchvision does, resampled bilinearly."""

    kind: Literal["crop"] = "crop"
    scale: tuple[float, float] = Field((0.08, 1.0), description="share of the image's area")
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    @model_validator(mode="after")
    def _range(self) -> "Crop":
        if not (0 < self.scale[0] <= self.scale[1] <= 1 and 0 < self.ratio[0] <= self.ratio[1]):
            raise ValueError(f"scale {list(self.scale)} and ratio {list(self.ratio)} are ranges above 0, scale up to 1")
        return self


class Shift(Model):
    """Translation by up to so many pixels in both directions, filled with black."""

    kind: Literal["shift"] = "shift"
    pixels: int = Field(ge=1)


class Flip(Model):
    """Mirrored left to right."""

    kind: Literal["flip"] = "flip"
    probability: float = Field(0.5, ge=0, le=1)


class Jitter(Model):
    """Brightness, contrast and saturation in random order, each by alpha ~ U(-strength, strength) towards black, the mean, grey."""

    kind: Literal["jitter"] = "jitter"
    strength: float = Field(0.4, ge=0)


class Lighting(Model):
    """AlexNet's PCA lighting: a multiple ~ N(0, sd) of each principal component of ImageNet's colours."""

    kind: Literal["lighting"] = "lighting"
    sd: float = Field(0.1, ge=0)


class RandAugment(Model):
    """So many of 14 operations at one magnitude of 0 to 30 (Cubuk et al. 2020)."""

    kind: Literal["randaugment"] = "randaugment"
    operations: int = Field(1, ge=1)
    magnitude: int = Field(6, ge=0, le=30)


class Shuffle(Model):
    """RDED's patch shuffle: the columns of tiles, then the rows, in random order; of mosaics alone, whose tiles they are."""

    kind: Literal["shuffle"] = "shuffle"
    factor: int = Field(2, ge=2, description="tiles along a side; the set's own")


class CutMix(Model):
    """One box of a shuffled batch is pasted into the batch (Yun et al. 2019)."""

    kind: Literal["cutmix"] = "cutmix"
    alpha: float = Field(1.0, gt=0, description="of Beta(alpha, alpha), the share that stays")


class MixUp(Model):
    """A batch is blended with itself in another order (Zhang et al. 2018)."""

    kind: Literal["mixup"] = "mixup"
    alpha: float = Field(1.0, gt=0)


Augmentation = Annotated[Crop | Shift | Flip | Jitter | Lighting | RandAugment | Shuffle, Field(discriminator="kind")]
Mix = Annotated[CutMix | MixUp, Field(discriminator="kind")]


class Common(Model):
    """What a protocol says and a job reads as it stands."""

    size: int | None = Field(None, ge=8, description="side of the input, pixels; null: that of the images")
    normalise: Literal["half", "imagenet"] = Field("imagenet", description="half: to [-1, 1]; imagenet: its mean and deviation")
    augment: tuple[Augmentation, ...] = Field((), description="in this order, every image on its own")
    mix: Mix | None = Field(None, description="of every batch")
    optimiser: Literal["sgd", "adamw"] = "sgd"
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    decay: Literal["all", "matrices"] = Field("all", description="which parameters decay; matrices: not biases and norms")
    schedule: Literal["cosine", "half_cosine", "milestones"] = Field(
        "cosine", description="half_cosine: 0.5 (1 + cos(pi e / 2E)); milestones: times 0.2 at 2/3 and 5/6"
    )
    schedule_by: Literal["epoch", "step"] = Field("epoch", description="how often the learning rate changes")
    drop_last: bool = Field(False, description="whether images that do not fill a batch are left out of an epoch")
    labels: Literal["hard", "soft"] = Field("hard", description="soft: a teacher's, of each augmented image")
    temperature: float = Field(20.0, gt=0, description="soft: T of KL(teacher, student), without a factor T²")
    top_k: int | None = Field(None, ge=1, description="soft: how many logits are kept; the others share what is left. null: all")
    evaluations: int = Field(20, ge=1, description="how often it is tested, evenly, the last epoch included")


class Settings(Common):
    """A protocol for one set and student: every number resolved."""

    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    epochs: int | None = Field(None, ge=1, description="or 'steps'")
    steps: int | None = Field(None, ge=1)
