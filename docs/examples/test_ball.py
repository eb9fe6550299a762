import torch

from limbeck.diffusion.levels import variance_preserving
from limbeck.guidance.ball import BallOptions, build
from limbeck.guidance.base import Step, Targets


def test_only_what_is_outside_the_ball_is_brought_back():
    near, far = torch.full((2, 4, 3, 3), 0.2), torch.full((2, 4, 3, 3), -3.0)
    ball = build(BallOptions(radius=0.5).model_dump(), Targets(near, torch.zeros_like(near)), "ddim")
    first, free = (Step(index, 50, variance_preserving(0.5)) for index in (0, 25))
    assert torch.equal(ball(first, near, near), torch.zeros_like(near))
    torch.testing.assert_close(far + ball(first, far, far), torch.full_like(far, -0.5))
    assert ball(free, far, far) is None
