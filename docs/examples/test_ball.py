import torch

from limbeck.diffusion.levels import variance_preserving
from limbeck.guidance.ball import BallOptions, build
from limbeck.guidance.base import Step, Targets


def test_only_what_is_outside_the_ball_is_brought_back_to_it():
    x0, expected = (torch.tensor(values).view(2, 1, 1, 1).expand(2, 4, 3, 3) for values in ([0.2, -3.0], [0.2, -0.5]))
    ball = build(BallOptions(radius=0.5).model_dump(), Targets(x0, torch.zeros_like(x0)), "ddim")
    first, free = (Step(index, 50, variance_preserving(0.5)) for index in (0, 25))
    torch.testing.assert_close(x0 + ball(first, x0, x0), expected)
    assert ball(free, x0, x0) is None
