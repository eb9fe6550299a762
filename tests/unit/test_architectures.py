"""The students: published parameter counts, shapes, gradients, and forwards written or built by others."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from limbeck.errors import LimbeckError
from limbeck.students.registry import STUDENTS, build

FAMILIES = ["convnet", "resnet", "alexnet", "vgg", "mobilenet", "shufflenet", "efficientnet", "vit", "swin"]
# torchvision's model pages; DeiT's (its model deit_tiny_patch16_224): 1000 classes, 224 pixels
PUBLISHED = {
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "mobilenetv2": 3_504_872,
    "shufflenetv2": 2_278_604,
    "efficientnet-b0": 5_288_548,
    "vit": 86_567_656,
    "deit-tiny": 5_717_416,
    "swin-tiny": 28_288_354,
}


def meta(name, channels, classes, size):
    with torch.device("meta"):
        return build(name, channels, classes, size).eval()


def seeded(name, channels, classes, size):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return build(name, channels, classes, size)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def shapes(model, names, x):
    """Output shape (C, H, W) of each named part."""
    found = {}
    for name in names:
        model.get_submodule(name).register_forward_hook(lambda *args, name=name: found.update({name: tuple(args[2].shape[1:])}))
    with torch.inference_mode():
        model(x)
    return [found[name] for name in names]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_number_of_parameters(name):
    assert parameters(meta(name, 3, 1000, 224)) == PUBLISHED[name]


@pytest.mark.parametrize("name", [name for name in STUDENTS if name.startswith("convnet3")])
def test_convnet_has_the_parameters_counted_by_hand(name):
    w = STUDENTS[name].options["width"]
    model = build(name, 1, 10, 32)
    convolutions = (9 * 1 * w + w) + 2 * (9 * w * w + w)
    norms, head = 3 * 2 * w, 10 * (w * 16) + 10
    assert parameters(model) == convolutions + norms + head
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    assert model.features(torch.zeros(2, 1, 32, 32)).shape == (2, w * 16)


def test_convnet6_by_hand():
    model = meta("convnet6", 3, 10, 256)
    convolutions = (9 * 3 * 128 + 128) + 5 * (9 * 128 * 128 + 128)
    assert parameters(model) == convolutions + 6 * 2 * 128 + (128 * 4 * 4 * 10 + 10)
    pools = [f"body.{4 * level + 1}" for level in range(6)]
    x = torch.zeros(1, 3, 256, 256, device="meta")
    assert shapes(model, pools, x) == [(128, side, side) for side in (128, 64, 32, 16, 8, 4)]
    assert build("convnet6", 3, 10, 224).features(torch.zeros(1, 3, 224, 224)).shape == (1, 128 * 3 * 3)


@pytest.mark.parametrize(("name", "more"), [("resnetap10", 0), ("resnet18-in", 1), ("resnet18", 1)])
def test_resnets_by_hand(name, more):
    """``more`` blocks per level behind its first."""
    model = meta(name, 3, 10, 256)
    stem = 7 * 7 * 3 * 64 + 2 * 64
    plain = {w: 2 * (9 * w * w + 2 * w) for w in (64, 128, 256, 512)}
    first = {w: 9 * (w // 2) * w + 9 * w * w + (w // 2) * w + 3 * 2 * w for w in (128, 256, 512)}
    levels = (1 + more) * plain[64] + sum(first[w] + more * plain[w] for w in first)
    assert parameters(model) == stem + levels + (512 * 10 + 10)
    found = shapes(model, ["maxpool", "layer1", "layer2", "layer3", "layer4"], torch.zeros(1, 3, 256, 256, device="meta"))
    assert found == [(64, 64, 64), (64, 64, 64), (128, 32, 32), (256, 16, 16), (512, 8, 8)]


@pytest.mark.parametrize(
    ("name", "size", "stem"),
    [
        *[("resnetap10", 64, 64), ("resnetap10", 128, 64), ("resnetap10", 224, 56)],
        *[("resnet18-in", 64, 64), ("resnet18-in", 128, 64), ("resnet18-in", 224, 56)],
        *[("resnet18", 32, 32), ("resnet18", 64, 64), ("resnet18", 128, 32), ("resnet50", 224, 56)],
        *[("shufflenetv2", 32, 32), ("shufflenetv2", 64, 64), ("shufflenetv2", 128, 32)],
    ],
)
def test_small_images_keep_their_resolution_in_the_stem(name, size, stem):
    model = meta(name, 3, 10, size)
    assert shapes(model, ["maxpool"], torch.zeros(1, 3, size, size, device="meta"))[0][1:] == (stem, stem)


@pytest.mark.parametrize(
    ("name", "part", "by_size"),
    [
        ("mobilenetv2", "body.conv_1x1", {32: 2, 64: 4, 128: 4, 224: 7}),
        ("efficientnet-b0", "body.encoder.top_activation", {32: 2, 64: 4, 128: 4, 224: 7}),
        ("alexnet", "body", {32: 3, 64: 7, 128: 3, 224: 6}),
        ("vgg11", "body", {32: 1, 64: 2, 128: 4, 224: 7}),
    ],
)
def test_resolution_of_the_last_map(name, part, by_size):
    for size, side in by_size.items():
        found = shapes(meta(name, 3, 10, size), [part], torch.zeros(1, 3, size, size, device="meta"))
        assert found[0][1:] == (side, side)


@pytest.mark.parametrize("name", STUDENTS)
def test_logits_and_features_at_every_size(name):
    for size in (32, 64, 128, 224, 256, 1024):
        if size >= STUDENTS[name].smallest:
            model, x = meta(name, 1, 7, size), torch.zeros(2, 1, size, size, device="meta")
            assert model.features(x).shape == (2, model.head.in_features)
            assert model(x).shape == (2, 7)


@pytest.mark.parametrize("name", STUDENTS)
def test_a_student_trains_on_ten_small_images(name):
    """Gradients reach every parameter; the same seed gives the same student; logits are the head's of the features."""
    size = max(32, STUDENTS[name].smallest)
    model, again = seeded(name, 3, 10, size), seeded(name, 3, 10, size).eval()
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    x = torch.randn(10, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits, features = again(x[:2]), again.features(x[:2])
        assert torch.equal(again(x[:2]), logits)
        torch.testing.assert_close(again.head(features), logits)
    del again
    F.cross_entropy(model.train()(x), torch.arange(10)).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()] == []


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name, student in STUDENTS.items() if student.family != "convnet"])
def test_two_images_of_224_pixels(name):
    model = build(name, 3, 10, 224).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 224, 224)).isfinite().all()


@pytest.mark.parametrize("name", ["mobilenetv2", "efficientnet-b0"])
def test_what_transformers_makes_for_loading_learns_from_nothing(name):
    """With transformers' own init EfficientNet's loss stays at log 10."""
    model, y = seeded(name, 3, 10, 32).train(), torch.arange(10)
    x = torch.randn(10, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    optimiser, losses = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9), []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(10):
            losses.append(F.cross_entropy(model(x), y))
            optimiser.zero_grad()
            losses[-1].backward()
            optimiser.step()
    assert losses[-1] < losses[0] - 0.4


def test_resnetap10_equals_an_independently_written_forward():
    model = seeded("resnetap10", 3, 10, 256).eval()
    for parameter in model.parameters():  # leave the norms' 1 and 0
        nn.init.normal_(parameter, std=0.1)
    weights, x = model.state_dict(), torch.randn(2, 3, 256, 256)

    def norm(x, key):
        mean, var = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, unbiased=False)
        return (x - mean) / (var + 1e-5).sqrt() * weights[f"{key}.weight"].view(-1, 1, 1) + weights[f"{key}.bias"].view(-1, 1, 1)

    expected = F.avg_pool2d(norm(F.conv2d(x, weights["conv1.weight"], padding=3), "bn1").relu(), 4)
    for level in (1, 2, 3, 4):
        at = f"layer{level}.0"
        inner = norm(F.conv2d(expected, weights[f"{at}.conv1.weight"], padding=1), f"{at}.bn1").relu()
        shortcut = expected
        if level > 1:
            inner = F.avg_pool2d(inner, 2)
            shortcut = norm(F.avg_pool2d(F.conv2d(expected, weights[f"{at}.downsample.0.weight"]), 2), f"{at}.downsample.2")
        expected = (norm(F.conv2d(inner, weights[f"{at}.conv2.weight"], padding=1), f"{at}.bn2") + shortcut).relu()
    expected = expected.mean((2, 3))
    with torch.inference_mode():
        torch.testing.assert_close(model.features(x), expected, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(model(x), expected @ weights["fc.weight"].T + weights["fc.bias"], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "kind", "inner"), [("resnet18", "basic", 2), ("resnet50", "bottleneck", 3)])
def test_resnet_equals_transformers(name, kind, inner):
    """Theirs with our weights, which have torchvision's names."""
    from transformers.models.resnet.modeling_resnet import ResNetConfig, ResNetForImageClassification

    ours, depths = seeded(name, 3, 10, 224).eval(), STUDENTS[name].options["depths"]
    sizes = [width * (4 if kind == "bottleneck" else 1) for width in (64, 128, 256, 512)]
    theirs = ResNetForImageClassification(ResNetConfig(depths=depths, hidden_sizes=sizes, layer_type=kind, num_labels=10)).eval()
    names = {"conv1": "resnet.embedder.embedder.convolution", "bn1": "resnet.embedder.embedder.normalization", "fc": "classifier.1"}
    for level, depth in enumerate(depths):
        for block in range(depth):
            at, other = f"layer{level + 1}.{block}", f"resnet.encoder.stages.{level}.layers.{block}"
            names |= {f"{at}.conv{i + 1}": f"{other}.layer.{i}.convolution" for i in range(inner)}
            names |= {f"{at}.bn{i + 1}": f"{other}.layer.{i}.normalization" for i in range(inner)}
            names |= {f"{at}.downsample.{i}": f"{other}.shortcut.{part}" for i, part in enumerate(("convolution", "normalization"))}
    state = {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in ours.state_dict().items()}
    theirs.load_state_dict(state)
    x = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x).logits)


def test_swin_at_224_is_transformers_own():
    """Its windows fit there, so that padding and shifting ours changes nothing."""
    model, x = seeded("swin-tiny", 3, 10, 224).eval(), torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        ours = model(x)
        model.options = {}
        assert torch.equal(model(x), ours)


# convolutional keys and shapes of torchvision's checkpoints
TORCHVISION = {
    "alexnet": {"features.0.weight": (64, 3, 11, 11), "features.10.bias": (256,), "classifier.6.weight": (1000, 4096)},
    "vgg11": {"features.18.weight": (512, 512, 3, 3), "classifier.0.weight": (4096, 25088), "classifier.6.bias": (1000,)},
    "resnet18": {"conv1.weight": (64, 3, 7, 7), "bn1.running_var": (64,), "layer2.0.downsample.0.weight": (128, 64, 1, 1)},
    "resnet50": {"layer1.0.downsample.1.bias": (256,), "layer4.2.conv3.weight": (2048, 512, 1, 1), "fc.weight": (1000, 2048)},
    "shufflenetv2": {
        "conv1.0.weight": (24, 3, 3, 3),
        "stage2.0.branch1.0.weight": (24, 1, 3, 3),
        "stage2.0.branch1.2.weight": (58, 24, 1, 1),
        "stage3.1.branch2.3.weight": (116, 1, 3, 3),
        "stage4.3.branch2.6.running_mean": (232,),
        "conv5.1.weight": (1024,),
        "fc.bias": (1000,),
    },
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_checkpoints_fit(name):
    model = meta(name, 3, 1000, 224)
    published = {key.replace("body.", "features."): value for key, value in model.state_dict().items()}
    assert {key: tuple(published[key].shape) for key in TORCHVISION[name]} == TORCHVISION[name]
    for source in (published, model.state_dict()):
        model.load_state_dict(source, assign=True)


def test_nothing_imports_torchvision():
    code = (
        "import sys, torch\nfrom limbeck.students.registry import STUDENTS, build\n"
        "with torch.device('meta'):\n    [build(name, 3, 10, 64) for name in STUDENTS]\nprint('torchvision' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_every_student_has_a_family_that_protocols_know():
    assert [s.family for s in STUDENTS.values() if s.family not in FAMILIES] == []


def test_a_size_that_does_not_halve_three_times_is_refused():
    with pytest.raises(LimbeckError, match="30 is not a multiple of 8"):
        build("convnet3-w32", 1, 10, 30)


@pytest.mark.parametrize(("name", "size"), [("convnet6", 32), ("resnet18", 28), ("swin-tiny", 16)])
def test_a_size_too_small_is_refused(name, size):
    with pytest.raises(LimbeckError, match=f"student {name}: image side {size} is less than {STUDENTS[name].smallest}"):
        build(name, 3, 10, size)


def test_an_unknown_student_is_refused():
    with pytest.raises(LimbeckError, match=r"student: unknown name 'resnet19'; known: \['alexnet', .*'resnet18'"):
        build("resnet19", 3, 10, 32)
