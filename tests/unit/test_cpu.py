"""Layers in another form on a CPU: the same function, in float64 or as torch has it, and the same weights under the same names."""

import copy
import math

import pytest
import torch
from diffusers import DDPMScheduler, DiTPipeline
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from limbeck.config import DitTraining
from limbeck.priors.cpu import IMAGES, ROWS, Linear, gelu_tanh, quicken
from limbeck.priors.dit import DitPrior
from limbeck.priors.training import train_dit
from tests import tiny_priors

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else there is."""
    monkeypatch.setenv("LIMBECK_DEVICE", "cpu")


def wide(monkeypatch: pytest.MonkeyPatch, capability: str = "AVX512") -> None:
    """As on a CPU of that width; convolutions are the same function on every other."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)


def drawn(inputs: int, outputs: int, bias: bool, seed: int) -> tuple[Linear, nn.Linear]:
    """A layer, and torch's with the same weights in float64."""
    torch.manual_seed(seed)
    layer = Linear(inputs, outputs, bias)
    plain = nn.Linear(inputs, outputs, bias).double()
    plain.load_state_dict(layer.state_dict())
    return layer, plain


@given(
    st.sampled_from([(1,), (ROWS,), (ROWS - IMAGES,), (ROWS + 1,), (8, IMAGES), (10, 16), (3, 77), (2, 5, 32), ()]),
    st.integers(1, 40),
    st.integers(1, 40),
    st.booleans(),
    st.integers(0, 2**16),
)
def test_products_and_gradients_are_those_of_float64(shape, inputs, outputs, bias, seed):
    layer, plain = drawn(inputs, outputs, bias, seed)
    x = torch.randn(*shape, inputs)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    found, wanted = layer(ours), plain(theirs)
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=2e-5)
    by = torch.randn_like(found)
    grads = torch.autograd.grad(found, [ours, *layer.parameters()], by)
    others = torch.autograd.grad(wanted, [theirs, *plain.parameters()], by.double())
    for one, other in zip(grads, others, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=2e-4)


@pytest.mark.parametrize("arrange", [lambda x: x.transpose(0, 1), lambda x: x[:, ::2], lambda x: x[:1].expand(8, -1, -1)])
def test_any_strides_will_do(arrange):
    layer, plain = drawn(12, 20, True, 0)
    x = arrange(torch.randn(32, 32, 12))
    with torch.inference_mode():
        torch.testing.assert_close(layer(x).double(), plain(x.double()), rtol=0, atol=2e-5)


def convolutions(call) -> int:
    """How many one-thread convolutions oneDNN is given by a call."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.profiler.profile() as profile:
            call()
    finally:
        torch.set_num_threads(before)
    return sum(event.count for event in profile.key_averages() if event.key == "aten::mkldnn_convolution")


@pytest.mark.parametrize(("rows", "taken"), [(ROWS, 1), (2 * ROWS, 1), (ROWS - IMAGES, 0), (ROWS + 1, 0)])
def test_onednn_computes_where_there_are_rows_enough(rows, taken):
    layer, x = Linear(64, 64), torch.randn(rows, 64)
    assert convolutions(lambda: layer(x)) == taken


def test_a_denoiser_keeps_its_weights_and_its_function(tmp_path, monkeypatch):
    folder = tiny_priors.numbered_dit(tmp_path)
    plain = DiTPipeline.from_pretrained(folder).transformer.eval()
    wide(monkeypatch)
    prior = DitPrior(folder)
    assert {type(part) for part in prior.transformer.modules() if isinstance(part, nn.Linear)} == {Linear}
    assert list(prior.transformer.state_dict()) == list(plain.state_dict())
    x = torch.randn(ROWS, *prior.latent_shape)
    t, labels = torch.randint(0, 1000, (ROWS,)), torch.arange(ROWS) % 3
    with torch.inference_mode():
        wanted = plain(x, timestep=t, class_labels=labels).sample[:, : x.shape[1]]
        torch.testing.assert_close(prior.denoise(x, t, labels)[0], wanted, rtol=0, atol=1e-5)
    assert convolutions(lambda: prior.denoise(x, t, labels)) > len(prior.blocks)
    prior.transformer.save_pretrained(tmp_path / "saved")
    again = type(plain).from_pretrained(tmp_path / "saved").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in plain.state_dict().items())


def test_a_prior_is_trained_by_them_to_the_same_weights(monkeypatch):
    cfg = DitTraining(steps=3, batch_size=ROWS // 4, layers=1, heads=1, head_dim=8, patch_size=2)
    latents, labels, found, taken = torch.randn(64, 4, 4, 4), torch.arange(64) % 3, [], []
    for capability in ("AVX2", "AVX512"):
        wide(monkeypatch, capability)
        taken.append(convolutions(lambda: found.append(train_dit(latents, labels, 3, cfg, DDPMScheduler(), lambda *_: None)[0])))
    assert taken[1] > taken[0]
    plain, ours = (model.state_dict() for model in found)
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-5)


def test_products_are_left_to_torch_on_other_processors(monkeypatch):
    wide(monkeypatch, "AVX2")
    network = nn.Sequential(nn.Linear(3, 4))
    quicken(network)
    assert type(network[0]) is nn.Linear


def test_layers_of_another_kind_are_left_alone(monkeypatch):
    class Own(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    wide(monkeypatch)
    network = nn.Sequential(Own(3, 4), nn.Linear(4, 2))
    quicken(network)
    assert [type(part) for part in network] == [Own, Linear]
    assert type(copy.deepcopy(network)[1]) is Linear


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e20])
def test_gelu_is_its_tanh_form_and_has_its_gradient(scale):
    x = scale * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    wider = x.double()
    wanted = 0.5 * wider * (1 + torch.tanh(math.sqrt(2 / math.pi) * (wider + 0.044715 * wider**3)))
    torch.testing.assert_close(gelu_tanh(x), wanted.float(), rtol=2e-6, atol=1e-6 * min(scale, 1.0))
    x.requires_grad_()
    (found,), (given,) = (torch.autograd.grad(f(x).sum(), x) for f in (gelu_tanh, lambda x: F.gelu(x, approximate="tanh")))
    torch.testing.assert_close(found, given, rtol=0, atol=0, equal_nan=True)


def test_a_dit_on_the_cpu_has_it_in_every_block_and_computes_the_same(tmp_path, monkeypatch):
    folder = tiny_priors.numbered_dit(tmp_path)
    prior, plain = DitPrior(folder), DiTPipeline.from_pretrained(folder).transformer.eval()
    x, t, labels = torch.randn(3, *prior.latent_shape), torch.tensor([3, 500, 900]), torch.tensor([0, 1, 2])
    with torch.inference_mode():
        wanted = plain(x, timestep=t, class_labels=labels).sample[:, : x.shape[1]]
        assert torch.allclose(prior.denoise(x, t, labels)[0], wanted, atol=1e-5)
        monkeypatch.setattr("torch.nn.functional.gelu", None)  # nobody asks torch's
        prior.denoise(x, t, labels)
