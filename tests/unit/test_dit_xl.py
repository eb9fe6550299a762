"""The benchmark of DiT-XL/2, on the CPU: the same code with a small DiT, and the arithmetic that its figures rest on."""

import re
import time

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import dit_xl
from limbeck.devices import VARIABLE
from limbeck.guidance.base import Step


@pytest.fixture(scope="module")
def prior():
    return dit_xl.random_dit(dit_xl.TINY)


def test_the_tables_have_a_row_for_every_batch_and_method(capsys, monkeypatch):
    monkeypatch.setattr(dit_xl, "ROUNDS", 1)
    monkeypatch.setenv(VARIABLE, "auto")  # what main sets is taken back
    dit_xl.main(["--tiny", "--device", "cpu", "--compute", "float32"])
    printed = capsys.readouterr().out
    assert "`python -m benchmarks.dit_xl --tiny --device cpu --compute float32`" in printed
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line.startswith("| ")]
    first, second = rows[: 2 + len(dit_xl.TINY.batches)], rows[2 + len(dit_xl.TINY.batches) :]
    assert [row[0] for row in first[2:]] == [str(batch) for batch in dit_xl.TINY.batches]
    for row in first[2:]:
        images, step, decoding, reached, share = map(float, row[1:6])
        assert min(images, step, decoding, reached) > 0
        assert share >= 0  # whole percents
    assert [row[0].split(",")[0] for row in second[2:]] == ["MGD", *["ManifoldGD"] * 4, "CoDA"]
    assert all(0 <= float(row[2]) <= 100 for row in second[2:])
    cost = {row[0]: float(row[1]) for row in second[2:]}
    # whose tangents are computed at every step, not read
    assert cost["ManifoldGD, online, expected"] > cost["MGD"]


def test_the_flops_of_dit_xl_are_the_papers():
    """118.64 G multiplications with addition (Peebles & Xie 2023, Table 4)."""
    with torch.device("meta"):
        model = DiTTransformer2DModel(**dit_xl.XL.transformer)
        x, t, y = torch.empty(1, 4, 32, 32), torch.empty(1, dtype=torch.long), torch.empty(1, dtype=torch.long)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(x, timestep=t, class_labels=y)
    assert counter.get_total_flops() == pytest.approx(2 * 118.64e9, rel=0.01)
    assert sum(p.numel() for p in model.parameters()) > 670e6


def test_the_flops_of_a_prior_are_those_of_its_denoiser(prior):
    """Read off its layers: a linear layer has 2 in out per token, attention 4 tokens width per token."""
    of, tokens = prior.transformer, 16
    width = of.inner_dim
    linear = 0
    for name, module in of.named_modules():
        if isinstance(module, torch.nn.Linear):
            # one for the whole image: embeddings of time and class, and what modulates by them
            whole = "emb" in name or "norm1.linear" in name or name == "proj_out_1"
            linear += 2 * module.in_features * module.out_features * (1 if whole else tokens)
    patches = 2 * of.pos_embed.proj.weight.numel() * tokens
    attention = len(of.transformer_blocks) * 4 * tokens * tokens * width
    again = 2 * sum(m.weight.numel() for m in of.transformer_blocks[0].norm1.emb.modules() if isinstance(m, torch.nn.Linear))
    assert dit_xl.flops(prior) == linear + patches + attention + again  # the output asks the first block's embedding once more


def test_the_seconds_of_a_guidance_are_those_of_its_active_steps(prior):
    class Slow:
        hook, recompute_noise = "combined", True

        def __call__(self, step: Step, x_t, x0_hat):  # noqa: ARG002
            if step.index >= 2:
                return None
            time.sleep(0.02)
            return torch.zeros_like(x0_hat)

    timed = dit_xl.Timed(Slow(), prior.device)
    dit_xl.sampled(prior, dit_xl.TINY, 1, [timed])
    assert len(timed.spent) == 2
    assert all(0.02 <= spent < 2 for spent in timed.spent)


def test_the_matrix_rate_counts_two_operations_per_product(monkeypatch):
    monkeypatch.setattr(dit_xl, "seconds", lambda *_: 0.5)
    assert dit_xl.matrix_rate(torch.device("cpu"), torch.float32, 10) == 2 * 1000 / 0.5


def test_every_method_is_guided_for_half_the_steps(prior):
    for name, make in dit_xl.guided(prior, dit_xl.TINY, 2).items():
        timed = dit_xl.Timed(make(), prior.device)
        found = dit_xl.sampled(prior, dit_xl.TINY, 2, [timed])
        assert len(timed.spent) == dit_xl.TINY.steps // 2, name
        assert torch.isfinite(found).all(), name
        assert re.match(r"MGD|ManifoldGD|CoDA", name)
