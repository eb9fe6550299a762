"""Small priors built from configs and saved in diffusers' layout, tokenizers included: nothing is downloaded."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
LETTERS = "abcdefghijklmnopqrstuvwxyz/-"


def dit(folder: Path, names: Sequence[str], size: int = 32) -> Path:
    """DiT's layout for RGB images of ``size``: a class table of ``names``, latents 4xhxw of an eighth of the side from 256 on."""
    from limbeck.config import DitTraining, VaeTraining
    from limbeck.priors import dit as layout
    from limbeck.priors.training import build_dit, build_vae
    from limbeck.stages.prior import SCHEDULER

    levels = 4 if size >= 256 else 3
    with torch.random.fork_rng():
        torch.manual_seed(5)
        autoencoder = build_vae(3, size, VaeTraining(block_out_channels=(8,) * levels))
        model = build_dit(4, size >> (levels - 1), len(names), DitTraining(layers=1, heads=2, head_dim=8))
        for parameter in model.parameters():  # leave the zero initialisation, so that the class matters
            torch.nn.init.normal_(parameter, std=0.1)
    layout.save(folder, model, autoencoder, SCHEDULER, dict(enumerate(names)))
    return folder


def clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """Byte-level BPE over single letters, as long as CLIP's."""
    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def t5_tokenizer() -> T5TokenizerFast:
    """Unigrams of single letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -10.0), *((letter, -2.0) for letter in ("\u2581", *LETTERS))]
    return T5TokenizerFast(tokenizer_object=Tokenizer(Unigram(pieces, unk_id=2)), extra_ids=0)


def clip_text(width: int, projected: bool, tokenizer: CLIPTokenizer) -> CLIPTextModel | CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModelWithProjection(config) if projected else CLIPTextModel(config)


def vae(latent_channels: int, **more: object) -> AutoencoderKL:
    """RGB images to latents of half their side."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(block_out_channels=(8, 8), latent_channels=latent_channels, norm_num_groups=4, **blocks, **more)


def unet(context: int, sample_size: int, **more: object) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=sample_size,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=context,
        attention_head_dim=2,
        **more,
    )


def added(pooled: int, ids: int) -> dict[str, object]:
    """SDXL's conditioning on pooled text and sizes."""
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": pooled + 8 * ids,
        "transformer_layers_per_block": 1,
        "use_linear_projection": True,
    }


def sd(folder: Path, prediction: str = "epsilon") -> Path:
    """Stable Diffusion's layout: 32x32 images, latents 4x16x16."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        tokenizer = clip_tokenizer(folder / "vocabulary")
        StableDiffusionPipeline(
            vae=vae(4, scaling_factor=0.18215),
            text_encoder=clip_text(16, False, tokenizer),
            tokenizer=tokenizer,
            unet=unet(16, 16),
            scheduler=DPMSolverMultistepScheduler(**BETAS, prediction_type=prediction, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        ).save_pretrained(folder / "sd")
    return folder / "sd"


def sdxl(folder: Path) -> Path:
    """SDXL's layout: two text encoders, pooled text and sizes as added conditions; 32x32 images, latents 4x16x16."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        tokenizers = [clip_tokenizer(folder / f"vocabulary{i}") for i in (1, 2)]
        StableDiffusionXLPipeline(
            vae=vae(4, scaling_factor=0.13025),
            text_encoder=clip_text(16, False, tokenizers[0]),
            text_encoder_2=clip_text(24, True, tokenizers[1]),
            tokenizer=tokenizers[0],
            tokenizer_2=tokenizers[1],
            unet=unet(40, 16, **added(24, 6)),
            scheduler=EulerDiscreteScheduler(**BETAS, timestep_spacing="leading", steps_offset=1),
        ).save_pretrained(folder / "sdxl")
    return folder / "sdxl"


def refiner(folder: Path, base: Path) -> Path:
    """The refiner's layout beside a base: the second text encoder alone, an aesthetic score among the added conditions."""
    whole = StableDiffusionXLPipeline.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        StableDiffusionXLImg2ImgPipeline(
            vae=whole.vae,
            text_encoder=None,
            text_encoder_2=whole.text_encoder_2,
            tokenizer=None,
            tokenizer_2=whole.tokenizer_2,
            unet=unet(24, 16, **added(24, 5)),
            scheduler=whole.scheduler,
            requires_aesthetics_score=True,
            force_zeros_for_empty_prompt=False,
        ).save_pretrained(folder / "refiner")
    return folder / "refiner"


def sd3(folder: Path, t5: bool = True) -> Path:
    """SD3's layout: flow matching, two CLIP text encoders and T5 (optional), 16 latent channels with a shift."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        tokenizers = [clip_tokenizer(folder / f"vocabulary{i}") for i in (1, 2)]
        letters = t5_tokenizer()
        encoder = T5EncoderModel(T5Config(vocab_size=len(letters), d_model=40, d_kv=8, d_ff=32, num_layers=1, num_heads=2))
        StableDiffusion3Pipeline(
            transformer=SD3Transformer2DModel(
                sample_size=16,
                patch_size=2,
                in_channels=16,
                num_layers=1,
                attention_head_dim=8,
                num_attention_heads=2,
                joint_attention_dim=40,
                caption_projection_dim=16,
                pooled_projection_dim=40,
                out_channels=16,
                pos_embed_max_size=16,
            ),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=vae(16, scaling_factor=1.5305, shift_factor=0.0609),
            text_encoder=clip_text(16, True, tokenizers[0]),
            tokenizer=tokenizers[0],
            text_encoder_2=clip_text(24, True, tokenizers[1]),
            tokenizer_2=tokenizers[1],
            text_encoder_3=encoder if t5 else None,
            tokenizer_3=letters if t5 else None,
        ).save_pretrained(folder / ("sd3" if t5 else "sd3-no-t5"))
    return folder / ("sd3" if t5 else "sd3-no-t5")


def numbered_dit(folder: Path, learned: bool = True, classes: int = 1000, seed: int = 5) -> Path:
    """DiT's layout with a learned variance: 32x32 grayscale images, latents 4x16x16, classes named by their numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DiTTransformer2DModel(
            num_attention_heads=2,
            attention_head_dim=8,
            in_channels=4,
            out_channels=8 if learned else 4,
            num_layers=2,
            sample_size=16,
            num_embeds_ada_norm=classes,
            norm_num_groups=4,
        )
        for parameter in model.parameters():  # as they are made the class hardly matters
            torch.nn.init.normal_(parameter, std=0.1)
        images = {"in_channels": 1, "out_channels": 1, "scaling_factor": 0.5}
        names = {str(i): str(i) for i in range(classes)}
        scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear", clip_sample=False)
        pipe = DiTPipeline(transformer=model, vae=vae(4, **images), scheduler=scheduler)
        pipe.register_to_config(id2label=names)
        pipe.save_pretrained(folder)
    return folder


def save_tiny_dit(folder: Path) -> None:
    """A random DiT and VAE for fashion's ten classes, 32x32 grayscale, in diffusers' layout."""
    from limbeck.config import DitTraining, VaeTraining
    from limbeck.data.sources.arrays import FASHION_CLASSES
    from limbeck.priors import dit
    from limbeck.priors.training import build_dit, build_vae
    from limbeck.stages.prior import SCHEDULER

    with torch.random.fork_rng():
        torch.manual_seed(7)
        vae = build_vae(1, 32, VaeTraining(block_out_channels=(8, 8, 8)))
        model = build_dit(4, 8, 10, DitTraining(layers=1, heads=2, head_dim=8))
        for parameter in model.parameters():  # leave the zero initialisation, so that the class matters
            torch.nn.init.normal_(parameter, std=0.1)
    dit.save(folder, model, vae, SCHEDULER, dict(enumerate(FASHION_CLASSES)))
