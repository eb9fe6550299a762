import pytest

from limbeck.errors import LimbeckError
from limbeck.protocols import PROTOCOLS, get
from limbeck.settings import Shuffle


def at(name, ipc, classes=10, family="convnet", tiles=1):
    return PROTOCOLS[name].settings(ipc, classes, family, tiles)


@pytest.mark.parametrize(
    ("ipc", "epochs", "of_100_classes"),
    [
        *((1, 3000, 2000), (2, 2000, 1300), (10, 2000, 1300), (11, 1500, 1000), (50, 1500, 1000)),
        *((51, 1000, 600), (200, 1000, 600), (201, 500, 300), (500, 500, 300), (501, 300, 200)),
    ],
)
def test_minimax_trains_as_long_as_the_design_says(ipc, epochs, of_100_classes):
    for name in ("minimax-hard-224", "minimax-hard-256"):
        assert at(name, ipc).epochs == epochs
        assert at(name, ipc, 100).epochs == of_100_classes
        assert at(name, ipc, 101).epochs == epochs


def test_minimax_changes_rate_decay_and_batch_above_100_classes():
    for classes, wanted in ((10, (0.01, 5e-4, 64)), (100, (0.01, 5e-4, 64)), (1000, (0.1, 1e-4, 128))):
        found = at("minimax-hard-256", 10, classes)
        assert (found.lr, found.weight_decay, found.batch_size) == wanted
    assert at("minimax-hard-224", 10).size == 224
    assert [a.kind for a in at("minimax-hard-256", 10).augment] == ["crop", "flip", "jitter", "lighting"]


@pytest.mark.parametrize(
    ("family", "rate"),
    [
        *(("resnet", 1e-3), ("convnet", 1e-3), ("vgg", 5e-4), ("efficientnet", 2e-3), ("mobilenet", 2.5e-3)),
        *(("alexnet", 1e-4), ("vit", 1e-4), ("swin", 1e-4), ("shufflenet", 1e-3)),
    ],
)
def test_rded_has_a_rate_for_every_architecture(family, rate):
    assert at("rded-soft", 10, family=family).lr == rate


@pytest.mark.parametrize(
    ("ipc", "classes", "batch"),
    [(1, 10, 10), (10, 10, 50), (50, 10, 100), (30, 10, 75), (100, 10, 100), (1, 100, 20), (10, 1000, 100), (1, 5, 5), (4, 10, 23)],
)
def test_rdeds_batches_by_ipc_and_classes_are_no_larger_than_the_set(ipc, classes, batch):
    assert at("rded-soft", ipc, classes).batch_size == batch


def test_tiles_are_shuffled_of_mosaics_alone():
    assert at("rded-soft", 10, tiles=2).augment[0] == Shuffle(factor=2)
    assert [a.kind for a in at("rded-soft", 10).augment] == ["crop", "flip"]


def test_the_embedded_benchmarks_steps_follow_the_ipc():
    assert [at("tiny-hard", i).steps for i in (1, 2, 10, 11, 50, 51, 500)] == [1000, 1200, 1200, 1500, 1500, 4000, 4000]


def test_a_protocol_of_the_config_is_its_base_and_what_differs():
    own = {
        "long": {"base": "rded-soft", "epochs": 1000, "teacher": "r50"},
        "short": {"base": "tiny-hard", "epochs": 7, "mix": None},
    }
    found = get("long", "run.protocols", own)
    assert (found.teacher, found.settings(10, 10, "vgg").epochs, found.settings(10, 10, "vgg").lr) == ("r50", 1000, 5e-4)
    short = get("short", "run.protocols", own).settings(10, 10, "convnet")
    assert (short.epochs, short.steps, short.mix, short.lr) == (7, None, None, 0.02)


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({}, r"run\.protocols: unknown protocol 'p'; choose one of"),
        ({"p": {"epochs": 3}}, r"protocols\.p\.base: missing; choose one of"),
        ({"p": {"base": "q"}}, r"protocols\.p\.base: 'q' is no built-in protocol"),
        ({"p": {"base": "tiny-hard", "lr": -1}}, r"^protocols\.p\.lr: .*greater than 0 \(got -1\)$"),
        ({"p": {"base": "tiny-hard", "lr": {"other": 1, "vgg": 0}}}, r"^protocols\.p\.lr\.vgg: .*greater than 0 \(got 0\)"),
        ({"p": {"base": "tiny-hard", "batch_size": 0}}, r"^protocols\.p\.batch_size: .*greater than or equal to 1 \(got 0\)$"),
        ({"p": {"base": "tiny-hard", "steps": {"more": 0}}}, r"^protocols\.p\.steps\.more: .*greater than or equal to 1"),
        ({"p": {"base": "tiny-hard", "epoch": 3}}, r"protocols\.p\.epoch: Extra inputs"),
        ({"p": {"base": "tiny-hard", "epochs": 3, "steps": 4}}, r"protocols\.p: .*one of 'epochs' and 'steps'"),
        ({"p": {"base": "tiny-hard", "steps": {10: 4}}}, r"protocols\.p: .*needs the entry 'more'"),
        ({"p": {"base": "tiny-hard", "lr": {"resnet": 1}}}, r"protocols\.p: .*need the entry 'other'"),
        ({"p": {"base": "tiny-hard", "teacher": "t"}}, r"protocols\.p: .*teacher 't' labels nothing"),
        (
            {"p": {"base": "tiny-hard", "augment": [{"kind": "crop", "scale": [0.5, 0.1]}]}},
            r"protocols\.p\.augment\.0\.crop: .*ranges",
        ),
    ],
)
def test_a_protocol_that_cannot_be_is_refused_by_its_key(own, message):
    with pytest.raises(LimbeckError, match=message):
        get("p", "run.protocols", own)


def test_no_protocol_of_the_config_takes_the_name_of_one_that_is_built_in():
    with pytest.raises(LimbeckError, match=r"protocols\.tiny-hard: the name is built in; choose another, with base: tiny-hard"):
        get("tiny-hard", "run.protocols", {"tiny-hard": {"base": "tiny-hard", "epochs": 9}})
