"""The one typed configuration. Unknown keys, wrong types and impossible values fail here, before any job starts.

Nothing heavy is imported, so the Snakefile parses in well under a second. The options of methods stand in ``limbeck.options``.
"""

import posixpath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from limbeck.data.benchmarks import members

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]+$", strict=True)]


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Values none of which is there twice: what is named twice would be made, and counted, once."""
    if twice := [value for value in dict.fromkeys(values) if values.count(value) > 1]:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


def _folder(path: str) -> str:
    """A folder as Snakemake compares it with the names of targets. What it would read as something else is refused."""
    if not path.isprintable() or set("{}") & set(path):
        raise ValueError("has braces, line breaks or invisible characters, which Snakemake cannot take; choose another name")
    if "://" in path:
        raise ValueError("is an address; a bucket is named by --default-storage-prefix (docs/CLUSTER.md)")
    if path != path.strip() or path[:1] in ("", "-", "~"):
        raise ValueError("is empty, or begins with '-', '~' or a blank, or ends with one; write the whole path of a folder")
    return posixpath.normpath(path)


def _no_braces(path: str) -> str:
    """What may be files that a rule reads: Snakemake would take braces in their names for a wildcard."""
    if set("{}") & set(path):
        raise ValueError("has braces, which Snakemake takes for a wildcard; rename the folder or file")
    return path


Distinct = AfterValidator(_distinct)
Weights = Annotated[str, AfterValidator(_no_braces)]
Folder = Annotated[str, AfterValidator(_folder)]
CfgChannels = Literal["all"] | Annotated[int, Field(ge=1)]
Names = Annotated[tuple[Name, ...], Field(min_length=1), Distinct]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1), Distinct]
TEACHER = "teacher"  # the extractor that is built in: the run's teacher
VAE = "vae"  # the feature space of the prior's own latents
DIFT = "dift"  # that of a block of its denoiser
OF_PRIOR = (VAE, DIFT)
NO_FEATURES = "none"  # no feature space at all
RESERVED = {
    "priors",
    "papers",
    "images",
    "teachers",
    "features",
    "tangents",
    "targets",
    "inverted",
    "starts",
    "candidates",
    "scores",
    "localized",
    "crops",
    "none",
    "ipcall",
    ".",
    "..",
}


class Model(BaseModel):
    """Frozen, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class View(Model):
    """A size and a resize rule of a dataset."""

    size: int = Field(32, ge=8, le=4096, description="side of the square images, pixels")
    resize: Literal["pad", "squash", "crop", "resize_crop", "adm", "windows"] = Field(
        "crop",
        description="pad: zero border, no resampling; squash: to size x size; crop: the central square, resized; resize_crop: the "
        "short side resized, then the central square, as torchvision's transforms; adm: as ADM and DiT crop their training images "
        "(halved by box averages, then bicubic); windows: the short side resized, and the long one covered by overlapping squares "
        "(for method 'patches')",
    )
    filter: Literal["lanczos", "bicubic", "bilinear", "box"] = Field(
        "lanczos", description="how pixels are resampled, antialiased; pad and adm leave no choice"
    )
    stride: int | None = Field(None, ge=1, description="windows: largest step between two of them, pixels; null: half of size")

    @model_validator(mode="after")
    def _stride(self) -> "View":
        if self.stride is not None and (self.resize != "windows" or self.stride > self.size):
            raise ValueError(f"stride {self.stride} belongs to resize: windows, and is at most size {self.size}")
        if "filter" in self.model_fields_set and self.resize in ("pad", "adm") and self.filter != "lanczos":
            raise ValueError(f"resize {self.resize} reads no filter; remove it")
        return self


# What a dataset of source 'pseudo' has of its own, and what those made of another take from that one.
PSEUDO = ("of", "labelled", "extractor", "threshold", "label_seed")
INHERITED = {"pseudo": ("classes", "channels", "views", "shards"), "subset": ("channels", "views")}
OF_A_LAYOUT = {"label_column": "parquet", "test_share": "folder"}
FILES_ONLY = ("path", "bad_files", *OF_A_LAYOUT)
# What a source has no use for.
UNREAD_BY = {
    "pseudo": (*FILES_ONLY, *INHERITED["pseudo"]),
    "subset": (*FILES_ONLY, *INHERITED["subset"], *PSEUDO[1:]),
}


class Dataset(Model):
    """A labelled image set: from files, or from another with few of its labels (pseudo) or some of its classes (subset)."""

    source: Literal["npz", "idx", "folder", "cifar", "tiny_imagenet", "parquet", "pseudo", "subset"] = Field(
        description="the layout of its files, or what it is made of (docs/DATA.md)"
    )
    path: str = Field("", description="a file (npz) or a folder (all others); 'package:NAME' is a file inside the package")
    classes: tuple[str, ...] | str | None = Field(
        None,
        description="class names or WordNet ids in canonical order, or a benchmark's name (imagewoof); null: the source's own "
        "order; subset: those it has of 'of'",
    )
    label_column: str | None = Field(None, min_length=1, description="parquet: the column of labels; null: label or fine_label")
    test_share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="folder: of class folders without train and test, the share of each class's images that is tested on, at least "
        "one; which ones is drawn by their names, so that an image added moves at most one other",
    )
    bad_files: int = Field(
        0, ge=0, description="images per split and shard that may be left out because they cannot be decoded; more are an error"
    )
    channels: Literal[1, 3] = Field(3, description="1 for grayscale, 3 for RGB")
    views: dict[Name, View] = Field({"v32": View()}, min_length=1, description="the first is the one students are trained on")
    shards: int = Field(1, ge=1, description="files per artifact; a shard is a set of whole classes")
    of: Name | None = Field(
        None,
        description="pseudo, subset: the dataset of files it is made of; channels and views are that one's, for pseudo classes, "
        "shards and test images too",
    )
    labelled: float = Field(0.1, gt=0, le=1, description="pseudo: share of each class whose labels are known, at least one image")
    extractor: Name | None = Field(None, description="pseudo: in whose features the class centres are; 'teacher' saw every label")
    threshold: float | None = Field(
        0.85, ge=-1, le=1, description="pseudo: least cosine to a class centre that gives a label; null: the labelled images alone"
    )
    label_seed: int = Field(0, description="pseudo: which labels are known")

    @model_validator(mode="after")
    def _keys_of_its_source(self) -> "Dataset":
        inherited = INHERITED.get(self.source)
        if inherited is None and not self.path:
            raise ValueError(f"source {self.source} needs 'path'")
        if inherited is not None and self.of is None:
            raise ValueError(f"source {self.source} needs 'of', the dataset it is made of")
        if self.source == "pseudo" and self.threshold is not None and self.extractor is None:
            raise ValueError("source pseudo needs 'extractor' (or threshold: null, the labelled images alone)")
        if self.source == "subset" and not self.classes:
            raise ValueError("source subset needs 'classes', names of those of 'of' in the order wanted")
        members(self.classes or ())
        unread = UNREAD_BY.get(self.source, (*PSEUDO, *(key for key, layout in OF_A_LAYOUT.items() if layout != self.source)))
        for key in sorted(self.model_fields_set & set(unread)):
            taken = ", it takes that of 'of'" if key in (inherited or ()) else ""
            raise ValueError(f"source {self.source} has no '{key}'{taken}")
        return self

    @property
    def view(self) -> str:
        """The view that students, teachers and metrics use: the first."""
        return next(iter(self.views))


class Training(Model):
    """What both networks of a prior share."""

    steps: int = Field(ge=1)
    batch_size: int = Field(64, ge=1)
    lr: float = Field(gt=0, description="peak learning rate; linear warm-up, then half cosine to 0")
    warmup: int = Field(100, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    seed: int = 0


class VaeTraining(Training):
    """AutoencoderKL: MSE + l1 * L1 + kl * KL."""

    steps: int = Field(5000, ge=1)
    lr: float = Field(2e-3, gt=0)
    block_out_channels: tuple[int, ...] = (16, 32, 64)
    layers_per_block: int = Field(1, ge=1)
    latent_channels: int = Field(4, ge=1)
    l1: float = Field(0.2, ge=0)
    kl: float = Field(1e-5, ge=0)


class DitTraining(Training):
    """Class-conditional DiT, noise prediction, min-SNR weights, EMA."""

    steps: int = Field(32000, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: int = Field(500, ge=0)
    layers: int = Field(6, ge=1)
    heads: int = Field(5, ge=1)
    head_dim: int = Field(32, ge=4)
    patch_size: int = Field(2, ge=1)
    ema: float = Field(0.9995, ge=0, lt=1)
    cfg_dropout: float = Field(0.1, ge=0, le=1, description="share of samples trained without their label")
    min_snr: float = Field(5.0, gt=0)


class PriorTraining(Model):
    """Train this prior on a dataset's training images."""

    dataset: Name
    vae: VaeTraining = VaeTraining()
    dit: DitTraining = DitTraining()
    dtype: Literal["float16", "float32"] = Field("float16", description="of the stored weights; loaded as float32")


class Finetune(Model):
    """Train a prior's denoiser further on a dataset's latents; its VAE stays."""

    dataset: Name
    mode: Literal["difffit", "full"] = Field(
        "difffit",
        description="difffit: biases, norms, class tables, a scale behind each attention and MLP; full: every weight, and a dit "
        "gets the class table of a dataset with other labels",
    )
    criterion: Literal["diffusion", "inversion_matching", "minimax"] = Field(
        "diffusion",
        description="the diffusion loss alone, with IMS3's matching of inverted latents, or with MinimaxDiffusion's two",
    )
    lambda_im: float = Field(0.002, ge=0, description="inversion_matching: weight of the matching term")
    matching: Literal["cosine", "l1", "l2"] = Field("cosine", description="inversion_matching: its distance (IMS3 Table 7)")
    inversion_steps: int = Field(4, ge=1, description="inversion_matching: network evaluations up to t, the last differentiated")
    variant: Literal["paper", "released"] = Field(
        "paper", description="inversion_matching: released: one step without gradient, matched to the posterior mean"
    )
    representativeness: float = Field(0.002, ge=0, description="minimax: weight of 1 - least cosine to remembered real latents")
    diversity: float = Field(0.008, ge=0, description="minimax: weight of the largest cosine to remembered predictions")
    memory: int = Field(64, ge=1, description="minimax: latents of each kind remembered per class")
    epochs: int = Field(8, ge=1, description="D3HR trains 400 for a dataset with other labels")
    batch_size: int = Field(8, ge=1)
    accumulate: int = Field(1, ge=1, description="batches per optimiser step")
    lr: float | None = Field(None, gt=0, description="of AdamW, constant; null: 1e-3 for difffit, 1e-4 for full")
    weight_decay: float = Field(0.0, ge=0)
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the moving average that is kept; 0: the last weights are")
    cfg_dropout: float = Field(0.1, ge=0, le=1, description="share of images trained without their label")
    seed: int = 0

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.lr or {"difffit": 1e-3, "full": 1e-4}[self.mode]

    def read(self) -> dict[str, Any]:
        """What its criterion and mode read of it."""
        unread = {key for criterion, keys in CRITERION_KEYS.items() if criterion != self.criterion for key in keys}
        if self.variant == "released":
            unread.add("inversion_steps")
        return self.model_dump(mode="json", exclude=unread) | {"lr": self.rate}

    @model_validator(mode="after")
    def _read(self) -> "Finetune":
        for criterion, keys in CRITERION_KEYS.items():
            for key in sorted(self.model_fields_set & set(keys)):
                if self.criterion != criterion:
                    raise ValueError(f"'{key}' belongs to criterion {criterion}, not to {self.criterion}")
        return self


# what only one criterion reads
CRITERION_KEYS = {
    "inversion_matching": ("lambda_im", "matching", "inversion_steps", "variant"),
    "minimax": ("representativeness", "diversity", "memory"),
}
# What a tuned prior takes from the one it is tuned from: always, or where it does not set them itself.
OF_BASE = ("family", "view", "discovery_view", "encode_batch", "t5")
FROM_BASE = ("prompt", "refiner", "refiner_start", "cfg_scale", "cfg_channels", "dtype", "compute", "attention", "compile")
ARITHMETIC = {"compute": "float32", "attention": "auto", "compile": False}  # how a prior computes, and what goes without saying


class Prior(Model):
    """A diffusion prior: given weights, trained by the pipeline, or tuned from another."""

    base: Name | None = Field(
        None, description=f"the prior that it is tuned from; {', '.join(OF_BASE)} are that one's, {', '.join(FROM_BASE)} by default"
    )
    finetune: Finetune | None = None
    family: Literal["dit", "sd", "sdxl", "sdxl_refiner", "sd3"] = Field(
        "dit",
        description="dit: class labels; sd (Stable Diffusion 1, 2), sdxl, sd3: prompts from class names; sdxl_refiner: for refiner",
    )
    weights: Weights | None = Field(None, description="'package:NAME', a hub name or a local folder, in diffusers' layout")
    variant: str | None = Field(None, description="of the weight files, e.g. fp16")
    dtype: Literal["float16", "float32"] = Field(
        "float32", description="of the stored weights, where they are not copied as they are; loaded as float32"
    )
    t5: bool = Field(True, description="sd3: whether to take its third text encoder, by far the largest, along")
    train: PriorTraining | None = None
    view: Name = Field("v32", description="the dataset's view of the size that this prior generates")
    discovery_view: Name | None = Field(
        None,
        description="the view whose latents discovery works in; chosen images alone are then encoded at 'view'; null: 'view'",
    )
    prompt: str = Field("{name}", description="of text priors; {name} is the class's first synonym", pattern=r"\{name\}")
    refiner: Name | None = Field(None, description="sdxl: a prior of family sdxl_refiner that denoises the last part")
    refiner_start: float = Field(0.8, gt=0, lt=1, description="where the refiner takes over, as diffusers' denoising_start")
    cfg_scale: float | None = Field(
        None, ge=0, description="classifier-free guidance scale where a method sets none; null: 4 for dit, 5 for text priors"
    )
    cfg_channels: CfgChannels = Field(
        "all",
        description="latent channels that classifier-free guidance acts on where a method sets none: all, or the first so many "
        "(DiT's own sampler guides 3 of its 4)",
    )
    vae: Weights | None = Field(
        None,
        description="another VAE in place of the weights' own, hub name or folder: stabilityai/sd-vae-ft-mse, sd-vae-ft-ema, "
        "sdxl-vae, or a prior's folder; its latents must have as many channels",
    )
    compute: Literal["float32", "bfloat16", "float16"] = Field(
        "float32",
        description="precision of the denoiser, the text encoders and the VAE (which stays float32 beside float16 where it would "
        "overflow); solver, guidance, statistics and what is stored are float32",
    )
    attention: Literal["auto", "flash", "efficient", "cudnn", "math"] = Field(
        "auto", description="torch's attention kernel; auto: its own choice for the device"
    )
    compile: bool = Field(
        False, description="compile the denoiser (torch.compile): minutes at first, then faster; needs a C compiler"
    )
    encode_batch: int = Field(100, ge=1, description="images per batch of the VAE; halved where the device's memory is too small")

    @model_validator(mode="after")
    def _one_origin(self) -> "Prior":
        if sum(origin is not None for origin in (self.weights, self.train, self.base)) != 1:
            raise ValueError("needs exactly one of 'weights', 'train' and 'base' (set the others to null)")
        if (self.base is None) != (self.finetune is None):
            raise ValueError("'base' and 'finetune' belong together: what is tuned, and how")
        if self.base is not None:
            for key in sorted(self.model_fields_set & {*OF_BASE, "variant", "vae"}):
                raise ValueError(f"a tuned prior has no '{key}', it takes that of its base {self.base!r}")
            return self
        if self.vae is not None and self.weights is None:
            raise ValueError("'vae' belongs to given 'weights'; a prior that is trained here trains its own")
        if self.train is not None and self.family != "dit":
            raise ValueError(f"only family dit is trained here, not {self.family}; set 'weights'")
        if self.refiner is not None and self.family != "sdxl":
            raise ValueError(f"only family sdxl has a refiner, not {self.family}")
        return self

    @property
    def discovery(self) -> str:
        """The view whose latents discovery works in."""
        return self.discovery_view or self.view


class Teacher(Model):
    """A classifier trained on the real data, or given; or several whose labels are averaged. The run's is the extractor
    'teacher'."""

    student: Name = Field("convnet3-w32", description="its architecture")
    protocol: Name = Field("tiny-teacher", description="how it is trained; with weights its input's size and normalisation alone")
    seed: int = 0
    weights: Weights | None = Field(
        None, min_length=1, description="a state dict instead of training: .safetensors, or .pt and .pth as torch saves them"
    )
    members: Names | None = Field(None, description="teachers whose soft labels are averaged, instead of all the above")

    @model_validator(mode="after")
    def _one_kind(self) -> "Teacher":
        for key in sorted(self.model_fields_set - {"members"}) if self.members else ():
            raise ValueError(f"'{key}' is not read of a teacher with 'members'; remove it")
        return self


SCRIPT_KEYS = ("size", "range", "mean", "std")  # of extractors, what kind torchscript alone reads


class Extractor(Model):
    """A feature extractor that the metrics, a discovery or pseudo-labels may name; 'teacher' is built in."""

    kind: Literal["clip", "hf", "torchscript", "inception"] = Field(
        "clip",
        description="clip: a CLIP's image embeddings; hf: the pooled features of an image model (ResNet, ViT, DINOv2, …) below its "
        "classifier; torchscript: any network that takes float images; inception: inception-2015-12-05.pt, for FID",
    )
    weights: Weights = Field(
        description="clip, hf: local folder or hub name in transformers' layout: config.json, image processor, safetensors; "
        "torchscript, inception: a local .pt file"
    )
    size: int | None = Field(None, ge=1, description="torchscript: side of the images that it takes, pixels")
    range: tuple[float, float] = Field((0.0, 1.0), description="torchscript: what black and full intensity become")
    mean: tuple[float, ...] = Field(
        (0.0,), description="torchscript: subtracted then; one value, or one for each of red, green, blue"
    )
    std: tuple[float, ...] = Field((1.0,), description="torchscript: and divided by")

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> "Extractor":
        for key in sorted(self.model_fields_set & set(SCRIPT_KEYS)):
            if self.kind != "torchscript":
                raise ValueError(f"'{key}' belongs to kind torchscript, not to {self.kind}")
        if self.kind == "torchscript" and self.size is None:
            raise ValueError("kind torchscript needs 'size', the side of the images that it takes")
        if not {len(self.mean), len(self.std)} <= {1, 3} or 0 in self.std:
            raise ValueError("'mean' and 'std' are one value or three, no 'std' is 0")
        return self

    def read(self) -> dict[str, Any]:
        """What its kind reads of it."""
        return self.model_dump(mode="json", exclude=set() if self.kind == "torchscript" else set(SCRIPT_KEYS))


class Run(Model):
    """What ``snakemake`` builds when no target is named."""

    datasets: Names = ("fashion-mini",)
    ipc: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Distinct] = Field((10,), min_length=1, description="images per class")
    prior: Name = "fashion-dit"
    methods: Names | dict[int, Names] = Field(
        (
            *("random", "herding", "kcenter", "kmeans", "coda_real", "rded", "patches", "dit", "d4m", "mgd"),
            *("manifoldgd", "manifoldgd_expected", "coda", "d3hr", "im", "s3", "ims3"),
        ),
        description="rows of the table, or a mapping by IPC",
    )
    references: Annotated[tuple[Literal["full", "subset"], ...], Distinct] = Field(
        ("full", "subset"), description="rows for the whole training set and for a size-matched random real subset"
    )
    seeds: Seeds | dict[int, Seeds] = Field((0,), description="generation seeds, or a mapping by IPC")
    repeats: int = Field(2, ge=1, description="trainings per generation seed")
    held_out: int = Field(
        50, ge=0, description="real training images per class, at most a tenth, on which a training's epoch is selected; 0: none"
    )
    soft_labels: Literal["online", "cached"] = Field(
        "online", description="protocols of soft labels: whether the teacher looks on, or labels first; the students are the same"
    )
    protocols: Names = Field(("tiny-hard",), description="built in (docs/PROTOCOLS.md) or of 'protocols'")
    students: Names = ("convnet3-w32",)
    teacher: Name = "convnet3"
    extractors: Names = Field(
        (TEACHER,),
        description="in whose features the metrics are: 'teacher' (built in) or names under 'extractors'; tables print the first's",
    )
    table: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+/[A-Za-z0-9]+$", strict=True)] | None = Field(
        None,
        description="a paper's table, PAPER/TABLE: the run builds those of its cells that can be made here, and its page, which "
        "says of the others what is missing (workflow/configs/papers)",
    )


class Config(Model):
    """config.yaml."""

    results: Folder = Field("results", description="folder of all artifacts; any name without braces and line breaks")
    offline: bool = Field(
        True,
        description="nothing is asked of a network; false: models under hub names that are not in the hub's cache are fetched, "
        "unless the environment has HF_HUB_OFFLINE=1",
    )
    run: Run = Run()
    datasets: dict[Name, Dataset] = {
        "fashion-mini": Dataset(
            source="npz", path="package:fashion_mini.npz", channels=1, views={"v32": View(size=32, resize="pad")}
        ),
        "fashion_mnist": Dataset(
            source="idx", path="/usr/share/datasets/fashion-mnist", channels=1, views={"v32": View(size=32, resize="pad")}
        ),
    }
    priors: dict[Name, Prior] = {
        "fashion-dit": Prior(weights="package:fashion-dit", view="v32", cfg_scale=1.5),
        "fashion-dit-im": Prior(
            base="fashion-dit", finetune=Finetune(dataset="fashion-mini", criterion="inversion_matching", epochs=2)
        ),
        "dit-xl": Prior(weights="facebook/DiT-XL-2-256", view="v256"),
        "dit-xl-512": Prior(weights="facebook/DiT-XL-2-512", view="v512"),
        "sd15": Prior(
            family="sd",
            weights="stable-diffusion-v1-5/stable-diffusion-v1-5",
            dtype="float16",
            view="v512",
            discovery_view="v224",
        ),
        "sdxl": Prior(
            family="sdxl",
            weights="stabilityai/stable-diffusion-xl-base-1.0",
            variant="fp16",
            dtype="float16",
            view="v1024",
            discovery_view="v224",
            cfg_scale=5.0,
        ),
    }
    methods: dict[Name, dict[str, Any]] = {
        "random": {"base": "random"},
        "kmeans": {"base": "kmeans"},
        "herding": {"base": "herding"},
        "kcenter": {"base": "kcenter"},
        "dit": {"base": "dit"},
        "dit_ddpm": {"base": "dit", "solver": "ddpm"},
        "mgd": {"base": "mgd", "weight": 0.1},
        "mgd_ddpm": {"base": "mgd", "solver": "ddpm"},
        "manifoldgd": {"base": "manifoldgd"},
        "manifoldgd_expected": {"base": "manifoldgd", "estimator": "expected"},
        "manifoldgd_ddpm": {"base": "manifoldgd", "solver": "ddpm"},
        "coda_real": {"base": "coda_real"},
        "coda": {"base": "coda"},
        "d3hr": {"base": "d3hr"},
        "patches": {"base": "patches", "real_images_per_class": 300},
        "rded": {"base": "rded"},
        "d4m": {"base": "d4m"},
        "kmeans_decoded": {"base": "kmeans_decoded"},
        "im": {"base": "dit", "prior": "fashion-dit-im"},
        "s3": {"base": "ims3"},
        "ims3": {"base": "ims3", "prior": "fashion-dit-im"},
        "mgd_s3": {"base": "mgd", "weight": 0.1, "keep": "subgroup"},
    }
    teachers: dict[Name, Teacher] = {"convnet3": Teacher(), "resnet18": Teacher(student="resnet18", protocol="teacher")}
    protocols: dict[Name, dict[str, Any]] = Field({}, description="a built-in protocol as 'base' and what differs from it")
    extractors: dict[Name, Extractor] = {"resnet18": Extractor(kind="hf", weights="microsoft/resnet-18")}

    @property
    def extractor_names(self) -> tuple[str, ...]:
        """Every extractor that a key may name."""
        return (TEACHER, *self.extractors)
