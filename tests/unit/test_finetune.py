"""Fine-tuning: what is trained, the losses against their equations, folding, resuming."""

import json
import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiTTransformer2DModel, UNet2DConditionModel
from torch.distributions import Normal, kl_divergence

from limbeck.config import DitTraining, Finetune
from limbeck.diffusion.schedule import Schedule
from limbeck.finetune.criteria import Batch, Diffusion, InversionMatching, Minimax, flat_cosine
from limbeck.finetune.difffit import add_scales, apply, choose, fold_scales, named, trained
from limbeck.finetune.labels import relabel
from limbeck.finetune.noise import invert, variance_bound
from limbeck.finetune.training import Checkpoint, Data, batch_of, steps_of, tune
from limbeck.priors.training import build_dit
from limbeck.stages.prior import SCHEDULER

CLASSES, NULL = 3, 3


def dit(seed: int = 0) -> DiTTransformer2DModel:
    """A small DiT whose class, gates and output matter."""
    torch.manual_seed(seed)
    model = build_dit(4, 4, CLASSES, DitTraining(layers=2, heads=2, head_dim=4))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def predictor(model: torch.nn.Module):
    return lambda x, t, labels: (model(x, timestep=t, class_labels=labels).sample, None)


def schedule(prediction: str = "epsilon") -> Schedule:
    return Schedule.of(DDIMScheduler.from_config({**SCHEDULER, "prediction_type": prediction}))


def batch(n: int = 4, seed: int = 0, dtype: torch.dtype = torch.float32) -> Batch:
    g = torch.Generator().manual_seed(seed)
    classes = torch.arange(n) % CLASSES
    dropped = torch.where(torch.arange(n) == 1, NULL, classes)
    clean, noise = torch.randn(2, n, 4, 4, 4, generator=g, dtype=dtype)
    return Batch(clean, noise, torch.randint(1, 1000, (n,), generator=g), classes, classes, dropped)


def tuned(seed: int = 0) -> DiTTransformer2DModel:
    """With scales that are no longer 1."""
    model = dit(seed)
    add_scales(model)
    choose(model, "difffit")
    for name, parameter in trained(model).items():
        if name.endswith("scale"):
            torch.nn.init.normal_(parameter, 1, 0.3)
    return model


def test_difffit_trains_few_parameters_of_dit_xl() -> None:
    sizes = {"num_attention_heads": 16, "attention_head_dim": 72, "num_layers": 28, "sample_size": 32, "num_embeds_ada_norm": 1000}
    with torch.device("meta"):
        model = DiTTransformer2DModel(**sizes, in_channels=4, out_channels=8)
        plain = sum(p.numel() for p in model.parameters())
        add_scales(model)
    counts = choose(model, "difffit")
    assert counts.total == plain + 2 * 28 * 1152
    assert counts.light < 0.005 * counts.total
    assert counts.tables == 28 * 1001 * 1152
    assert counts.other == 0
    names = set(trained(model))
    assert all(n.endswith((".bias", ".scale", "embedding_table.weight")) for n in names)
    assert sum(n.endswith(".scale") for n in names) == 56
    assert not any(n.endswith("norm1.linear.weight") for n in names)
    assert all(f"transformer_blocks.{i}.norm1.linear.bias" in names for i in range(28))
    assert "transformer_blocks.*.attn1.to_out.0.scale: 28 x (1152,)" in named(model)
    assert "64,512" not in str(counts)  # scales are not counted apart
    assert f"{counts.light:,} biases, norms, scales (0." in str(counts)


def test_full_trains_everything() -> None:
    model = dit()
    counts = choose(model, "full")
    assert len(trained(model)) == len(list(model.parameters()))
    assert counts.light + counts.tables + counts.other == counts.total


def test_difffit_on_a_text_unet_trains_biases_norms_and_scales() -> None:
    model = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    blocks = sum(type(m).__name__ == "BasicTransformerBlock" for m in model.modules())
    x, text = torch.randn(2, 4, 8, 8), torch.randn(2, 3, 8)
    before = model(x, torch.tensor([5, 700]), encoder_hidden_states=text).sample
    add_scales(model)
    counts = choose(model, "difffit")
    names = set(trained(model))
    assert sum(n.endswith(".scale") for n in names) == 3 * blocks  # self-attention, cross-attention, feed-forward
    assert counts.tables == counts.other == 0
    assert "conv_norm_out.weight" in names
    assert "conv_in.weight" not in names
    assert not any("attn" in n and n.endswith("weight") for n in names)
    for name, parameter in trained(model).items():
        if name.endswith("scale"):
            torch.nn.init.normal_(parameter, 1, 0.3)
    scaled = model(x, torch.tensor([5, 700]), encoder_hidden_states=text).sample
    assert not torch.allclose(scaled, before, atol=1e-4)
    fold_scales(model)
    folded = model(x, torch.tensor([5, 700]), encoder_hidden_states=text).sample
    torch.testing.assert_close(folded, scaled, rtol=1e-5, atol=1e-5)
    assert not any(n.endswith(".scale") for n in model.state_dict())


def test_no_blocks_to_scale_is_said() -> None:
    with pytest.raises(ValueError, match="Linear has no transformer blocks"):
        add_scales(torch.nn.Linear(2, 2))


def test_folded_and_reloaded_by_diffusers_is_the_same_function(tmp_path: Path) -> None:
    model = tuned()
    x, t, y = torch.randn(5, 4, 4, 4), torch.randint(1000, (5,)), torch.tensor([0, 1, 2, 3, 0])
    with torch.no_grad():
        expected = model(x, timestep=t, class_labels=y).sample
        assert not torch.allclose(expected, dit()(x, timestep=t, class_labels=y).sample, atol=1e-3)
        delta = {name: value.detach().clone() for name, value in trained(model).items()}
        fold_scales(model)
        model.save_pretrained(tmp_path)
        found = DiTTransformer2DModel.from_pretrained(tmp_path).eval()(x, timestep=t, class_labels=y).sample
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        base = dit()
        apply(base, delta)  # the small delta alone does too
        torch.testing.assert_close(base(x, timestep=t, class_labels=y).sample, expected, rtol=1e-5, atol=1e-5)
        with pytest.raises(ValueError, match=r"'elsewhere.bias', which this denoiser has not"):
            apply(dit(), {"elsewhere.bias": torch.zeros(1)})


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_inversion_step_follows_its_equation(prediction: str) -> None:
    s, b = schedule(prediction), batch()
    output = torch.randn_like(b.clean)
    below, above = torch.tensor([-1, 0, 400, 10]), torch.tensor([30, 250, 900, 10])
    found = invert(s, b.clean, output, below, above)
    for n in range(4):

        def abar(t: int) -> float:
            return 1.0 if t < 0 else float(s.abar[t])

        a, c, asked = abar(int(below[n])), abar(int(above[n])), abar(max(0, int(below[n])))
        eps = output[n]
        if prediction == "v_prediction":
            eps = math.sqrt(asked) * output[n] + math.sqrt(1 - asked) * b.clean[n]
        # D3HR Eq. 2 turned round: z = sqrt(abar') (z - sqrt(1 - abar) eps) / sqrt(abar) + sqrt(1 - abar') eps
        expected = math.sqrt(c) * (b.clean[n] - math.sqrt(1 - a) * eps) / math.sqrt(a) + math.sqrt(1 - c) * eps
        torch.testing.assert_close(found[n], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[3], b.clean[3])


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_diffusion_loss_is_zero_for_the_right_prediction(prediction: str) -> None:
    s, b = schedule(prediction), batch()
    z = s.noised(b.clean, b.noise, b.t)
    abar = s.abar[b.t].float().view(-1, 1, 1, 1)
    torch.testing.assert_close(z, abar.sqrt() * b.clean + (1 - abar).sqrt() * b.noise)
    right = b.noise if prediction == "epsilon" else abar.sqrt() * b.noise - (1 - abar).sqrt() * b.clean
    terms = Diffusion(s)(lambda *_: (right, None), b)
    assert terms["diffusion"].abs().max() < 1e-10
    wrong = Diffusion(s)(lambda *_: (right + 2, None), b)
    torch.testing.assert_close(wrong["diffusion"], torch.full((4,), 4.0))


def test_variance_bound_is_the_divergence_of_the_posteriors() -> None:
    s, b = schedule(), batch(6)
    z, output, raw = s.noised(b.clean, b.noise, b.t), torch.randn_like(b.clean), torch.rand_like(b.clean) * 2 - 1
    found = variance_bound(s, b.clean, z, output, raw, b.t)
    betas = torch.linspace(SCHEDULER["beta_start"], SCHEDULER["beta_end"], 1000, dtype=torch.float64)
    abars = torch.cumprod(1 - betas, 0)
    for n in range(6):
        t = int(b.t[n])
        beta, abar, before = betas[t], abars[t], abars[t - 1]
        x0 = (z[n] - (1 - abar).sqrt() * output[n]) / abar.sqrt()

        def mean(clean: torch.Tensor, n: int = n, beta=beta, abar=abar, before=before) -> torch.Tensor:
            return before.sqrt() * beta / (1 - abar) * clean + (1 - beta).sqrt() * (1 - before) / (1 - abar) * z[n]

        low = (beta * (1 - before) / (1 - abar)).log()
        learned = (raw[n].double() + 1) / 2 * beta.log() + (1 - raw[n].double()) / 2 * low
        true, ours = Normal(mean(b.clean[n]), (0.5 * low).exp()), Normal(mean(x0), (0.5 * learned).exp())
        assert float(found[n]) == pytest.approx(float(kl_divergence(true, ours).mean() / math.log(2)), rel=1e-3)
    first = Batch(b.clean, b.noise, torch.zeros(6, dtype=torch.int64), b.classes, b.labels, b.dropped)
    assert variance_bound(s, b.clean, z, output, raw, first.t).tolist() == [0.0] * 6


def test_learned_variance_adds_its_bound_and_leaves_the_mean_alone() -> None:
    s, b = schedule(), batch()
    weight = torch.ones(2, requires_grad=True)
    terms = Diffusion(s)(lambda x, *_: (weight[0] * x, torch.tanh(weight[1] * x)), b)
    assert set(terms) == {"diffusion", "variance"}
    (gradient,) = torch.autograd.grad(terms["variance"].sum(), weight)
    assert gradient[0] == 0
    assert gradient[1] != 0


def test_matching_without_weight_is_the_diffusion_loss() -> None:
    s, b, model = schedule(), batch(), tuned()
    plain = Diffusion(s)(predictor(model), b)["diffusion"]
    for variant in ("paper", "released"):
        terms = InversionMatching(s, 0.0, "cosine", 4, variant)(predictor(model), b)
        torch.testing.assert_close(sum(terms.values()), plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("distance", ["cosine", "l1", "l2"])
@pytest.mark.parametrize("steps", [1, 3])
def test_matching_gradient_reaches_the_weights_through_the_last_step(distance: str, steps: int) -> None:
    """Finite differences in float64, the steps below the last held fixed."""
    s, b = schedule(), batch(dtype=torch.float64)
    model = tuned().double()
    criterion = InversionMatching(s, 0.7, distance, steps, "paper")
    rungs = criterion._rungs(b.t, steps)
    z = b.clean
    with torch.no_grad():
        for below, above in pairwise(rungs):
            z = invert(s, z, model(z, timestep=below.clamp(min=0), class_labels=b.labels).sample, below, above)

    def term() -> torch.Tensor:
        last = model(z, timestep=rungs[-1].clamp(min=0), class_labels=b.labels).sample
        inverted, target = invert(s, z, last, rungs[-1], b.t), s.noised(b.clean, b.noise, b.t)
        gap = inverted - target
        if distance == "cosine":
            a, c = inverted.flatten(1), target.flatten(1)
            return 0.7 * (1 - (a * c).sum(1) / (a.norm(dim=1) * c.norm(dim=1))).sum()
        return 0.7 * (gap.abs() if distance == "l1" else gap**2).flatten(1).mean(1).sum()

    found = criterion(predictor(model), b)["matching"].sum()
    torch.testing.assert_close(found, term(), rtol=1e-5, atol=1e-8)
    weights = trained(model)
    for name in ("transformer_blocks.1.attn1.to_out.0.scale", "transformer_blocks.0.norm1.linear.bias"):
        (gradient,) = torch.autograd.grad(criterion(predictor(model), b)["matching"].sum(), weights[name])
        direction = torch.randn_like(gradient)
        with torch.no_grad():
            sides = []
            for sign in (1, -1):
                weights[name] += sign * 1e-5 * direction
                sides.append(term())
                weights[name] -= sign * 1e-5 * direction
        slope = (sides[0] - sides[1]) / 2e-5
        assert float(slope) != 0
        assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-4)


def test_released_matching_has_no_gradient_through_the_inversion() -> None:
    s, b, model = schedule(), batch(dtype=torch.float64), tuned().double()
    criterion = InversionMatching(s, 1.0, "cosine", 4, "released")
    terms = criterion(predictor(model), b)
    with torch.no_grad():
        fixed = criterion.inverted(predictor(model), b, b.t - 1, 1)
    z, abar, before = s.noised(b.clean, b.noise, b.t), s.abar[b.t].view(-1, 1, 1, 1), s.abar[b.t - 1].view(-1, 1, 1, 1)
    output = model(z, timestep=b.t, class_labels=b.dropped).sample
    x0, beta = (z - (1 - abar).sqrt() * output) / abar.sqrt(), 1 - abar / before
    mean = before.sqrt() * beta / (1 - abar) * x0 + (1 - beta).sqrt() * (1 - before) / (1 - abar) * z
    expected = 1 - flat_cosine(fixed, mean)
    torch.testing.assert_close(terms["matching"], expected, rtol=1e-4, atol=1e-7)
    weight = next(p for n, p in trained(model).items() if n.endswith("scale"))
    (ours,), (theirs,) = (torch.autograd.grad(v.sum(), weight, retain_graph=True) for v in (terms["matching"], expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-8)


def test_minimax_remembers_per_class_first_in_first_out() -> None:
    s, memory = schedule(), 2
    criterion = Minimax(s, 0.3, 0.7, memory, CLASSES)
    model = predictor(tuned())
    real: dict[int, list] = {c: [] for c in range(CLASSES)}
    predicted: dict[int, list] = {c: [] for c in range(CLASSES)}
    for round_ in range(4):
        b = batch(5, seed=round_)
        terms = criterion(model, b)
        z = s.noised(b.clean, b.noise, b.t)
        x0 = s.level(b.t).clean(z, model(z, b.t, b.dropped)[0]).detach()
        for n in range(5):
            c = int(b.classes[n])

            def cos(others: list, n: int = n, x0=x0) -> list[float]:
                return [float(F.cosine_similarity(x0[n].flatten(), o.flatten(), dim=0)) for o in others]

            near = 0.3 * (1 - min(cos(real[c]))) if real[c] else 0.0
            far = 0.7 * max(cos(predicted[c])) if predicted[c] else 0.0
            assert terms["representativeness"][n].item() == pytest.approx(near, abs=1e-5)
            assert terms["diversity"][n].item() == pytest.approx(far, abs=1e-5)
        for n in range(5):
            c = int(b.classes[n])
            real[c] = [*real[c], b.clean[n]][-memory:]
            predicted[c] = [*predicted[c], x0[n]][-memory:]


def test_relabel_keeps_what_is_known_and_the_null_class() -> None:
    model = dit()
    old = [block.norm1.emb.class_embedder.embedding_table.weight.clone() for block in model.transformer_blocks]
    assert relabel(model, ["new", "b", "other", "a"], {"a": 0, "b": 1, "c": 2}, seed=5) == 2
    for before, block in zip(old, model.transformer_blocks, strict=True):
        after = block.norm1.emb.class_embedder.embedding_table.weight
        assert after.shape == (5, before.shape[1])
        torch.testing.assert_close(after[[1, 3, 4]], before[[1, 0, 3]])
        shift = after[[0, 2]] - before[3]
        assert 0 < shift.abs().max().item() < 0.1
        assert not torch.equal(shift[0], shift[1])
    assert model.config.num_embeds_ada_norm == 4
    assert model(torch.randn(1, 4, 4, 4), timestep=torch.tensor([3]), class_labels=torch.tensor([4])).sample.isfinite().all()


def data(n: int = 20) -> Data:
    rng = np.random.default_rng(1)
    return Data(rng.standard_normal((n, 4, 4, 4)).astype(np.float16), np.arange(n) % CLASSES, [2, 0, 1], NULL, 1000)


def test_a_batch_is_the_same_whatever_is_beside_it() -> None:
    whole = batch_of(data(), np.array([3, 7, 11]), 2, 9, 0.5)
    alone = batch_of(data(), np.array([7]), 2, 9, 0.5)
    for name in ("clean", "noise", "t", "classes", "labels", "dropped"):
        torch.testing.assert_close(getattr(whole, name)[1:2], getattr(alone, name))
    assert whole.labels.tolist() == [[2, 0, 1][i] for i in whole.classes.tolist()]
    later = batch_of(data(), np.array([7]), 3, 9, 0.5)
    assert not torch.equal(later.noise, alone.noise)
    many = batch_of(data(2000), np.arange(2000), 0, 0, 0.25)
    assert (many.dropped == NULL).float().mean() == pytest.approx(0.25, abs=0.05)
    assert many.t.float().mean() == pytest.approx(499.5, abs=30)
    assert (many.t.min(), many.t.max()) < (20, 1000)
    assert many.noise.std() == pytest.approx(1, abs=0.02)


class Killed(Exception):
    pass


def tune_small(
    options: Finetune, path: Path, kill_at: int | None = None, task: str = "one", given: Data | None = None, seconds: float = 0.0
) -> tuple[dict, list]:
    model = dit()
    add_scales(model)
    choose(model, options.mode)
    criterion = Minimax(schedule(), 0.1, 0.1, 3, CLASSES) if options.criterion == "minimax" else Diffusion(schedule())
    seen: list[int] = []

    def report(done: int, *_: float) -> None:
        seen.append(done)
        if kill_at == done:
            raise Killed

    history = tune(model, predictor(model), criterion, given or data(), options, Checkpoint(path, task, seconds), report)
    return {name: w.detach().clone() for name, w in trained(model).items()}, [history, seen]


@pytest.mark.parametrize("criterion", ["diffusion", "minimax"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, criterion: str, ema: float) -> None:
    options = Finetune(dataset="x", criterion=criterion, epochs=3, batch_size=2, accumulate=2, ema=ema, lr=1e-2)
    whole, (history, _) = tune_small(options, tmp_path / "whole")
    with pytest.raises(Killed):
        tune_small(options, tmp_path / "killed", kill_at=11)
    again, (resumed, seen) = tune_small(options, tmp_path / "killed")
    assert seen[0] == 11  # the last checkpoint was at 10, not at the start
    assert resumed == history
    for name, value in whole.items():
        assert torch.equal(value, again[name]), name
    _, (_, seen) = tune_small(options, tmp_path / "killed", task="another")
    assert seen[0] == 1  # a checkpoint of another task is not gone on from
    for part in list(tmp_path.glob("*")):
        assert not part.name.endswith(".part")


def test_checkpoints_keep_their_distance(tmp_path: Path) -> None:
    options = Finetune(dataset="x", epochs=2, batch_size=4)
    with pytest.raises(Killed):
        tune_small(options, tmp_path / "c", kill_at=8, seconds=60)
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    options = Finetune(dataset="x", epochs=2, batch_size=4)
    whole, _ = tune_small(options, tmp_path / "whole")
    with pytest.raises(Killed):
        tune_small(options, tmp_path / "cut", kill_at=5)
    body = (tmp_path / "cut").read_bytes()
    (tmp_path / "cut").write_bytes(body[: len(body) // 2])
    again, (_, seen) = tune_small(options, tmp_path / "cut")
    assert seen[0] == 1
    assert all(torch.equal(value, again[name]) for name, value in whole.items())


def test_training_lowers_the_loss_and_accumulation_is_a_larger_batch(tmp_path: Path) -> None:
    one = Finetune(dataset="x", mode="full", epochs=30, batch_size=10, lr=3e-3)
    _, (history, _) = tune_small(one, tmp_path / "a")
    first, last = (np.mean([p["loss"] for p in part]) for part in (history[:10], history[-10:]))
    assert last < 0.9 * first
    parts = Finetune(dataset="x", mode="full", epochs=1, batch_size=5, accumulate=2, lr=3e-3)
    together = Finetune(dataset="x", mode="full", epochs=1, batch_size=10, lr=3e-3)
    split, (a, _), whole, (b, _) = *tune_small(parts, tmp_path / "b"), *tune_small(together, tmp_path / "c")
    assert a[0]["loss"] == pytest.approx(b[0]["loss"], rel=1e-5)
    moved = max(float((split[name] - whole[name]).abs().max()) for name in whole)
    assert moved < 1e-3  # Adam divides by tiny gradients, so a rounding may turn into part of a step


def test_a_diverging_loss_and_too_few_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"the loss is (nan|inf) at step \d+ of .*1.00e\+12.*lower finetune.lr; there is no checkpoint"
    ):
        tune_small(Finetune(dataset="x", mode="full", epochs=50, batch_size=4, lr=1e12), tmp_path / "a", seconds=60)
    broken = data()
    broken.latents[12:] = np.nan
    with pytest.raises(
        ValueError, match=r"the loss is nan at step (\d+) of 20, first of class .*the last checkpoint, .*/b, is of step (\d+)$"
    ) as caught:
        tune_small(Finetune(dataset="x", epochs=1, batch_size=1), tmp_path / "b", given=broken)
    failed, saved = map(int, re.search(r"at step (\d+) of .* of step (\d+)$", str(caught.value)).groups())
    assert failed == saved + 1 > 1
    assert Checkpoint(tmp_path / "b", "one").load()[0].step == saved
    with pytest.raises(ValueError, match=r"20 images are fewer than batch_size \* accumulate = 32"):
        tune_small(Finetune(dataset="x", batch_size=8, accumulate=4), tmp_path / "a")
    assert steps_of(21, 2, 5, 3) == (2, 6)


def test_checkpoint_is_plain_safetensors(tmp_path: Path) -> None:
    from safetensors import safe_open

    with pytest.raises(Killed):
        tune_small(Finetune(dataset="x", epochs=2, batch_size=4), tmp_path / "c", kill_at=5)
    with safe_open(tmp_path / "c", "pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == 4  # killed in the fifth
        kinds = {key.split("/")[0] for key in file.keys()}  # noqa: SIM118
    assert kinds == {"weights", "exp_avg", "exp_avg_sq", "step"}
