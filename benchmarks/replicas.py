"""Repeats of one student trained together: vmap over stacked weights against trainings in turn, on one thread of a CPU.

It does not pay (see the ratio): the convolutions of a batch of 25 keep a core busy already, and the grouped ones that vmap makes of
them are slower for each group. So the pipeline trains repeats in turn.
"""

import copy
import resource
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from benchmarks.measure import Line, judged
from limbeck.cli import keep_freed_memory
from limbeck.students.registry import build

REPLICAS, RATE, MOMENTUM = 5, 0.02, 0.9


def in_turn(models: list[nn.Module], x: Tensor, y: Tensor) -> None:
    """Steps of SGD of each model on batches x (steps, replicas, b, C, H, W) and y (steps, replicas, b)."""
    for replica, model in enumerate(models):
        optimiser = torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM)
        for step in range(len(x)):
            optimiser.zero_grad()
            F.cross_entropy(model(x[step, replica]), y[step, replica]).backward()
            optimiser.step()


def together(models: list[nn.Module], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The same steps of all at once; their stacked weights."""
    weights, buffers = stack_module_state(models)
    bare = copy.deepcopy(models[0]).to("meta")

    def loss(own: dict[str, Tensor], rest: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(bare, (own, rest), (images,)), labels)

    weights = {name: value.detach() for name, value in weights.items()}
    momenta = {name: torch.zeros_like(value) for name, value in weights.items()}
    gradient = vmap(grad(loss))
    for step in range(len(x)):
        for name, value in gradient(weights, buffers, x[step], y[step]).items():
            momenta[name].mul_(MOMENTUM).add_(value)
            weights[name].sub_(momenta[name], alpha=RATE)
    return weights


def run(folder: Path) -> list[Line]:  # noqa: ARG001
    """Ratio of the times, after the weights were found equal."""
    torch.set_num_threads(1)
    keep_freed_memory()
    lines: list[Line] = []
    for student, steps in (("convnet3-w32", 20), ("convnet3", 3)):
        torch.manual_seed(0)
        models = [build(student, 1, 10, 32) for _ in range(REPLICAS)]
        x, y = torch.rand(steps, REPLICAS, 25, 1, 32, 32), torch.randint(0, 10, (steps, REPLICAS, 25))
        copies = [copy.deepcopy(model) for model in models]
        stacked = together(copies, x[:2], y[:2])
        in_turn(copies, x[:2], y[:2])  # both are warm now
        for name, value in stacked.items():
            for replica, model in enumerate(copies):
                torch.testing.assert_close(value[replica], dict(model.named_parameters())[name].detach(), atol=1e-4, rtol=1e-3)
        started = time.process_time()
        in_turn([copy.deepcopy(model) for model in models], x, y)
        turn = time.process_time() - started
        started = time.process_time()
        together(models, x, y)
        seconds = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        case = f"{REPLICAS} of {student} by vmap"
        line: Line = {"benchmark": "replicas", "case": case, "seconds": seconds, "peak_mb": peak}
        lines.append(judged(line | {"ratio": seconds / turn, "of": "trainings in turn"}, ratio=(None, 0.6)))
    return lines
