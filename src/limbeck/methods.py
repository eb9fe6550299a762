"""The registry of methods: a method is discovery, start, guidance, sampler and what is kept, written as data.

``METHODS`` holds the named compositions; a user's ``methods.<name>`` starts from one (``base``) and changes any key.
Option keys are flat: each belongs to a component of the composition (``target`` to a guidance and a start), and one that belongs
to none is refused. ``limbeck.resolution`` makes a :class:`Method` of them.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from limbeck import components
from limbeck.config import NO_FEATURES, OF_PRIOR, Model
from limbeck.options import (
    AgglomerativeDiscovery,
    AgglomerativeFit,
    AlignmentGuidance,
    CoresetDiscovery,
    CropDiscovery,
    Cropping,
    DensityDiscovery,
    DensityFit,
    DivisiveDiscovery,
    DivisiveFit,
    Embedding,
    GaussianStart,
    GroupSampling,
    Inversion,
    KMeansDiscovery,
    Localization,
    ManifoldGuidance,
    ModeGuidance,
    PatchDiscovery,
    PatchFeatures,
    PatchFit,
    PrototypeStart,
    RandomDiscovery,
    Scoring,
    SubgroupSelection,
    TangentOptions,
)


@dataclass(frozen=True)
class Discovery:
    """Options of a discovery; its kernel is named in ``limbeck.components``.

    fit: those of its options that an IPC-free, cached fit depends on, where it has one. embedding: those of them that the
    embedding depends on that it works in, where it may have one. raw: latents that are neither reduced nor replaced by other
    features are taken as they are, not standardised into an embedding. judge: whose scores of an image's patches it chooses by.
    """

    options: type[Model]
    needs_latents: bool = False
    fit: type[Model] | None = None
    embedding: type[Model] | None = None
    raw: bool = False
    judge: Literal["prior", "teacher"] | None = None


DISCOVERY: dict[str, Discovery] = {
    "random": Discovery(RandomDiscovery),
    "subset": Discovery(RandomDiscovery),
    "kmeans": Discovery(KMeansDiscovery, needs_latents=True, embedding=Embedding, raw=True),
    "herding": Discovery(CoresetDiscovery, needs_latents=True, embedding=Embedding, raw=True),
    "kcenter": Discovery(CoresetDiscovery, needs_latents=True, embedding=Embedding, raw=True),
    "divisive": Discovery(DivisiveDiscovery, needs_latents=True, fit=DivisiveFit),
    "agglomerative": Discovery(AgglomerativeDiscovery, needs_latents=True, fit=AgglomerativeFit),
    "density": Discovery(DensityDiscovery, needs_latents=True, fit=DensityFit, embedding=Embedding),
    "patches": Discovery(PatchDiscovery, fit=PatchFit, embedding=PatchFeatures, judge="prior"),
    "crops": Discovery(CropDiscovery, judge="teacher"),
}
# where sampling starts: pure noise, a draw from class statistics, or a noised prototype
START: dict[str, type[Model] | None] = {"noise": None, "gaussian": GaussianStart, "prototype": PrototypeStart}
# what is kept of what is sampled: all of it, or the best of several candidate groups
KEEP: dict[str, type[Model] | None] = {"all": None, "subgroup": SubgroupSelection}
# a guidance's options; its kernel is the module of its name in limbeck.guidance
GUIDANCE: dict[str, type[Model]] = {"mode": ModeGuidance, "manifold": ManifoldGuidance, "alignment": AlignmentGuidance}

# The solvers of each family of priors, its own first, and its guidance scale where neither prior nor method sets one.
SOLVERS: dict[str, tuple[str, ...]] = {
    "dit": ("ddim", "ddpm", "dpm++"),
    "sd": ("dpm++", "ddim", "ddpm"),
    "sdxl": ("dpm++", "ddim", "ddpm"),
    "sd3": ("flow",),
}
CFG_SCALE = {"dit": 4.0, "sd": 5.0, "sdxl": 5.0, "sd3": 5.0}
# What CoDA sets by IPC: option -> (up to LOW_IPC, above). The injection steps are those of 50.
LOW_IPC = 20
BY_IPC: dict[str, tuple[Any, Any]] = {"n_neighbors": (85, 40), "min_cluster_size": (55, 15)}
# Table 11's for DiT, Tables 8 and 13's best for SDXL; ASSUME: Stable Diffusion as SDXL, and SD3 too (A.16 prints none)
_SDXL = {"gamma": (0.1, 0.08), "prior_injection_steps": (5, 20), "alignment": ("released", "released")}
BY_FAMILY: dict[str, dict[str, tuple[Any, Any]]] = {
    "dit": {"gamma": (1.0, 0.8), "prior_injection_steps": (15, 8), "alignment": ("paper", "paper")},
    "sd": _SDXL,
    "sdxl": _SDXL,
    "sd3": {**_SDXL, "alignment": ("paper", "paper")},
}

# generate: False keeps the discovered real images themselves. imported: the images are another method's, ready-made.
# options: where the composition's defaults differ from its components', by_family: for priors of some families.
METHODS: dict[str, dict[str, Any]] = {
    "random": {"discovery": "random", "generate": False},
    "subset": {"discovery": "subset", "generate": False},
    "kmeans": {"discovery": "kmeans", "generate": False},
    "herding": {"discovery": "herding", "generate": False},
    "kcenter": {"discovery": "kcenter", "generate": False},
    "dit": {"discovery": None, "generate": True},
    "mgd": {"discovery": "kmeans", "guidance": ["mode"], "generate": True},
    "manifoldgd": {"discovery": "divisive", "guidance": ["manifold"], "generate": True, "options": {"target": "member"}},
    "coda_real": {"discovery": "density", "generate": False},
    "coda": {"discovery": "density", "guidance": ["alignment"], "generate": True},
    "d3hr": {"discovery": None, "start": "gaussian", "generate": True},
    "ims3": {"discovery": None, "generate": True, "keep": "subgroup"},
    "patches": {"discovery": "patches", "generate": False},
    "rded": {"discovery": "crops", "generate": False},
    "kmeans_decoded": {"discovery": "kmeans", "start": "prototype", "generate": True, "options": {"strength": 0.0}},
    "d4m": {
        "discovery": "kmeans",
        "start": "prototype",
        "generate": True,
        "options": {"algorithm": "minibatch"},
        "by_family": {family: {"cfg_scale": 8.0} for family in ("sd", "sdxl", "sd3")},
    },
    "imported": {"discovery": None, "generate": False, "imported": True},
}
# The whole training set as a row of the table: no discovery, no sampling, no IPC.
FULL = "full"


@dataclass(frozen=True)
class Method:
    """A resolved composition: every option has one value."""

    name: str
    discovery: dict[str, Any] | None
    guidance: tuple[dict[str, Any], ...]
    sampler: dict[str, Any] | None
    prior: str
    start: dict[str, Any] | None = None
    keep: dict[str, Any] | None = None
    imported: dict[str, Any] | None = None

    @property
    def needs_prior(self) -> bool:
        """Whether the method depends on a prior (its VAE or its denoiser)."""
        kind = DISCOVERY[self.discovery["kind"]] if self.discovery else None
        return self.sampler is not None or bool(kind and (kind.needs_latents or kind.judge == "prior"))

    @property
    def judge(self) -> str | None:
        """Whose scores of patches its discovery chooses by: the prior's, the teacher's; None where it chooses whole images."""
        return DISCOVERY[self.discovery["kind"]].judge if self.discovery else None

    @property
    def patch_view(self) -> str | None:
        """The view that its prior scores and its patches are cut from; None where no prior scores."""
        return self.discovery["view"] if self.discovery and self.judge == "prior" else None

    @property
    def uses_prototypes(self) -> bool:
        """Whether its sampling reads them."""
        return bool(self.guidance) or (self.start or {}).get("kind") == "prototype"

    @property
    def drawn(self) -> dict[str, Any] | None:
        """The options of a start from class statistics; None for any other."""
        return self.start if (self.start or {}).get("kind") == "gaussian" else None

    @functools.cached_property
    def discovery_name(self) -> str:
        """Where its prototypes are cached: the kind and six hex digits of the resolved options."""
        assert self.discovery is not None
        return _named(self.discovery["kind"], self.discovery)

    @property
    def fit(self) -> dict[str, Any] | None:
        """The options of its discovery's IPC-free fit; None where it has none."""
        return fit_options(self.discovery) if self.discovery else None

    @property
    def features(self) -> str | None:
        """The extractor whose features its discovery works in; None where that is the prior's latents, or neither."""
        found = self.discovery.get("features") if self.discovery else None
        return None if found in (*OF_PRIOR, NO_FEATURES) else found

    @property
    def tangents(self) -> dict[str, Any] | None:
        """Everything its tangent spaces depend on besides prototypes, seed and prior; None where it needs none."""
        for guidance in self.guidance:
            if guidance["kind"] == "manifold" and guidance["correction"] != "none" and guidance["t_stop"]:
                assert self.sampler is not None
                chosen = {**_part(guidance, TangentOptions), **{key: guidance[key] for key in ("t_stop", "target")}}
                return {**chosen, "discovery": self.discovery_name, **{key: self.sampler[key] for key in ("solver", "steps")}}
        return None

    @functools.cached_property
    def tangents_name(self) -> str | None:
        """Where they are cached; None where they are computed while sampling (``query: online``) or not needed."""
        tangents = self.tangents
        return _named("tangents", tangents) if tangents and tangents["query"] == "anchor" else None

    @property
    def inversion(self) -> dict[str, Any] | None:
        """What the statistics of inverted latents depend on besides prior and latents; None where the method starts from noise."""
        if self.drawn is None or self.sampler is None:
            return None
        found = {**_part(self.drawn, Inversion), "steps": self.sampler["steps"]}
        # at scale 1 they are not read, so they must not name the statistics
        return {**found, "cfg_channels": "all" if found["inversion_scale"] == 1 else self.sampler["cfg_channels"]}

    @functools.cached_property
    def inversion_name(self) -> str | None:
        """Where they are cached, for every IPC and seed."""
        return _named("inversion", self.inversion) if self.inversion else None

    @property
    def draws(self) -> dict[str, Any] | None:
        """What the choice of starting latents depends on besides the statistics, IPC and seed."""
        return _part(self.drawn, GroupSampling) if self.drawn else None

    @functools.cached_property
    def start_name(self) -> str | None:
        """Where that choice is cached."""
        return _named("gaussian", {**self.draws, "inversion": self.inversion_name}) if self.draws else None

    @functools.cached_property
    def candidates_name(self) -> str | None:
        """Where its candidate groups are cached, whatever is chosen among them; None where all that is sampled is kept."""
        parts = {"discovery": self.discovery, "start": self.start, "guidance": self.guidance, "sampler": self.sampler}
        return _named("candidates", parts) if self.keep else None

    def modules(self) -> list[str]:
        """The modules that generation loads by name (for the fingerprint)."""
        found = [components.GUIDANCE.format(g["kind"]) for g in self.guidance]
        return found + [components.PLANES] * bool(self.tangents) + [components.DRAWN] * bool(self.drawn)


def _named(kind: str, options: Mapping[str, Any]) -> str:
    # a batch's size changes what is made by no more than rounding, so a smaller one, after running out of memory, keeps the folder
    text = json.dumps({key: value for key, value in options.items() if not key.endswith("_batch")}, sort_keys=True)
    return f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _part(options: Mapping[str, Any], model: type[Model]) -> dict[str, Any]:
    """Those of the resolved options that a model has."""
    return {key: value for key, value in options.items() if key in model.model_fields}


def fit_options(discovery: Mapping[str, Any]) -> dict[str, Any] | None:
    """The resolved options that a discovery's IPC-free fit depends on; None where it has no fit."""
    model = DISCOVERY[discovery["kind"]].fit
    if model is None or discovery.get("features") == NO_FEATURES:
        return None
    return {"kind": discovery["kind"], **_part(discovery, model)}


def embedding_options(discovery: Mapping[str, Any]) -> dict[str, Any] | None:
    """The resolved options of the embedding that a discovery works in; None where that is the latents themselves."""
    model = DISCOVERY[discovery["kind"]].embedding
    chosen = _part(discovery, model) if model is not None and discovery.get("features") != NO_FEATURES else {}
    return {**chosen, "standardize": True} if "reducer" in chosen else chosen or None


def scoring_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a discovery's options, or of its patches', that typicality maps depend on."""
    return _part(options, Scoring)


def scoring_name(options: Mapping[str, Any]) -> str:
    """Where those maps are cached."""
    return _named("typicality", scoring_options(options))


def patching_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a discovery's options that the choice of a patch in every image depends on."""
    return _part(options, Cropping if "crops" in options else Localization)


def patching_name(options: Mapping[str, Any]) -> str:
    """Where that choice is cached."""
    return _named("sure" if "crops" in options else "typical", patching_options(options))


def embedding_name(embedding: Mapping[str, Any]) -> str:
    """Where an embedding is cached."""
    # those of patches: of the prior, which subsets take from their parent, or of an extractor
    kind = embedding.get("reducer") or ("patches" if embedding["features"] in OF_PRIOR else "extracted")
    return _named(kind, embedding)


def fit_name(fit: Mapping[str, Any]) -> str:
    """Where a fit is cached."""
    return _named(fit["kind"], fit)
