"""The ConvNet's compiled operation against torch's own in float64."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.students.convnet import ConvNet
from limbeck.students.fused import _pool, norm_relu_pool
from limbeck.students.registry import build

EPS = 1e-5


def reference(x, weight, bias):
    return F.avg_pool2d(F.relu(F.instance_norm(x, None, None, weight, bias, eps=EPS)), 2)


def inputs(shape, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=draw) * 3 + 5
    return [t.requires_grad_() for t in (x, *torch.randn(2, shape[1], generator=draw))]


def compiled(model, x):
    return type(model.body[:2](x).grad_fn).__name__ == "_NormReluPoolBackward"


def gradients(function, arguments, upstream):
    out = function(*arguments)
    return [out, *torch.autograd.grad(out, arguments, upstream)]


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    _pool.cache_clear()
    yield torch.set_num_threads
    torch.set_num_threads(before)
    _pool.cache_clear()


# sides that no pool divides, rows shorter and longer than a vector
@settings(deadline=None)  # it may have to be compiled
@given(st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(2, 21), st.integers(2, 21)), st.integers(0, 2**31))
def test_it_and_its_gradients_are_torchs(shape, seed):
    ours = inputs(shape, seed)
    theirs = [t.detach().double().requires_grad_() for t in ours]
    upstream = torch.randn(shape[0], shape[1], shape[2] // 2, shape[3] // 2, generator=torch.Generator().manual_seed(seed + 1))
    found = gradients(lambda *a: norm_relu_pool(*a, EPS), ours, upstream)
    expected = gradients(reference, theirs, upstream.double())
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=2e-5 * (1 + float(other.detach().abs().max())))


def test_large_planes_are_as_exact_as_small_ones():
    x, weight, bias = inputs((1, 4, 256, 256), 0)
    x = x + 1000  # a deviation that is small beside the mean
    found = norm_relu_pool(x, weight, bias, EPS).double()
    expected = reference(x.double(), weight.double(), bias.double())
    assert float((found - expected).detach().abs().max()) < 5e-4  # 1000 in float32 is exact to 6e-5, 2e-5 of the deviation


def test_any_strides_give_the_same_values():
    x, weight, bias = inputs((3, 5, 8, 6), 1)
    plain = norm_relu_pool(x, weight, bias, EPS)
    for other in (x.detach().to(memory_format=torch.channels_last), x.detach().transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(norm_relu_pool(other, weight, bias, EPS), plain)
    out = norm_relu_pool(x, weight, bias, EPS)
    upstream = torch.randn_like(out).contiguous()
    (first,) = torch.autograd.grad(out, x, upstream)
    (second,) = torch.autograd.grad(plain, x, upstream.to(memory_format=torch.channels_last))
    assert torch.equal(first, second)


def test_the_number_of_threads_changes_no_bit(threads):
    found = []
    for number in (1, 3, 7):
        threads(number)
        arguments = inputs((6, 100, 12, 12), 2)
        out = norm_relu_pool(*arguments, EPS)
        found.append([out, *torch.autograd.grad(out.square().sum(), arguments)])
    assert _pool.cache_info().misses == 2  # it did take threads
    for row in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], row, strict=True))


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_what_is_no_number_stays_none(wrong):
    """A training that has diverged must be seen in its loss: ReLU lets no NaN end as 0."""
    x, weight, bias = inputs((2, 3, 4, 4), 3)
    x = x.detach()
    x[1, 2, 0, 0] = wrong
    found = norm_relu_pool(x, weight, bias, EPS)
    assert torch.isnan(found[1, 2]).all()
    assert torch.isfinite(found[0]).all()
    assert torch.isfinite(found[1, :2]).all()


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 2, 1, 4), torch.float32), ((1, 2, 4, 1), torch.float32), ((1, 2, 4, 4), torch.float64)]
)
def test_what_it_does_not_take_is_refused(shape, dtype):
    with pytest.raises(ValueError, match=r"float32 with sides of 2 at least, not torch\.float"):
        norm_relu_pool(torch.zeros(shape, dtype=dtype), torch.ones(2), torch.zeros(2), EPS)


def test_weights_have_the_names_that_they_have_elsewhere():
    """Where norm, ReLU and pool are three layers: other code's ConvNets, and teachers trained before they were one."""
    names = [f"body.{4 * level + part}.{which}" for level in range(3) for part in (0, 1) for which in ("weight", "bias")]
    assert list(build("convnet3-w32", 1, 5, 16).state_dict()) == [*names, "head.weight", "head.bias"]


def test_it_is_not_differentiated_twice():
    arguments = inputs((1, 2, 4, 4), 4)
    (first,) = torch.autograd.grad(norm_relu_pool(*arguments, EPS).square().sum(), arguments[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_convnet_is_the_same_network_with_torchs_operations(channels):
    """As under torch.func, where the compiled ones have no numbers to compute with; a step's gradients too."""
    model = build("convnet3-w32", channels, 5, 16)
    x, y = torch.randn(4, channels, 16, 16), torch.arange(4)
    assert compiled(model, x)
    named = dict(model.named_parameters())
    loss = F.cross_entropy(model(x), y)
    ours = torch.autograd.grad(loss, list(named.values()))
    plain, theirs = torch.func.grad_and_value(lambda p: F.cross_entropy(torch.func.functional_call(model, p, x), y))(named)
    torch.testing.assert_close(loss, theirs)
    for found, expected in zip(plain.values(), ours, strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5 + 1e-5 * scale)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # torch's own checks of sizes
def test_a_traced_convnet_runs_without_it():
    model = ConvNet(1, 3, 8, depth=1, width=4).eval()
    traced = torch.jit.trace(model, torch.randn(2, 1, 8, 8))
    x = torch.randn(5, 1, 8, 8)
    assert compiled(model, x)
    torch.testing.assert_close(traced(x), model(x))
    assert "PythonOp" not in str(traced.graph)  # which nothing but this process could run
