"""Arguments and configurations that the kernels of `helion_kernels` are tried with."""

from collections.abc import Callable
from dataclasses import dataclass

import helion
import torch

from tests import helion_kernels


def halves(*shape):
    return torch.rand(shape, dtype=torch.float32).to(torch.float16)


@dataclass(frozen=True)
class Case:
    """A kernel with what it is called with."""

    name: str
    arguments: Callable[[], tuple]
    configs: tuple[dict, ...]

    def bind(self):
        return getattr(helion_kernels, self.name).bind(self.arguments())


def whole(bound, config):
    """The default configuration with some values changed."""
    return helion.Config(**(dict(bound.config_spec.default_config()) | config))


CASES = {
    case.name: case
    for case in (
        Case(
            "add",
            lambda: (torch.rand(20, 96), torch.rand(20, 96)),
            ({}, {"block_sizes": [8, 64], "loop_orders": [[1, 0]], "num_warps": 2}, {"block_sizes": [1, 4]}),
        ),
        Case("exponential", lambda: (torch.rand(10007),), ({}, {"block_sizes": [1024], "num_warps": 8})),
        Case(
            "softmax",
            lambda: (torch.rand(10, 300),),
            ({}, {"block_sizes": [4]}, {"reduction_loops": [64]}, {"block_sizes": [2], "reduction_loops": [128], "num_warps": 1}),
        ),
        Case("softmax_two_pass", lambda: (torch.rand(10, 300),), ({}, {"block_sizes": [8, 64, 32]})),
        Case(
            "matmul",
            lambda: (halves(100, 72), halves(72, 120)),
            (
                {},
                {"block_sizes": [32, 64, 16], "num_stages": 3, "num_warps": 2},
                {"block_sizes": [64, 32, 32], "l2_groupings": [4]},
                {"block_sizes": [16, 32, 32], "l2_groupings": [2], "loop_orders": [[1, 0]]},
                {"block_sizes": [16, 32, 32], "l2_groupings": [2]},
            ),
        ),
        Case(
            "matmul_bias",
            lambda: (halves(100, 72), halves(72, 120), halves(120)),
            ({}, {"block_sizes": [32, 64, 16], "num_stages": 4}),
        ),
        Case(
            "layer_norm",
            lambda: (halves(10, 300), halves(300), halves(300), 1e-5),
            ({}, {"block_sizes": [4]}, {"block_sizes": [2], "reduction_loops": [64]}),
        ),
        Case("rms_norm", lambda: (halves(10, 300), halves(300), 1e-5), ({}, {"block_sizes": [2], "reduction_loops": [64]})),
        Case("long_sum", lambda: (torch.rand(10, 3000),), ({}, {"block_sizes": [256, 4]}, {"block_sizes": [1024, 1]})),
        Case("embedding", lambda: (torch.arange(100) % 30, torch.rand(30, 72)), ({}, {"block_sizes": [4, 128]})),
        Case(
            "attention",
            lambda: (halves(1, 40, 64), halves(1, 70, 64), halves(1, 70, 64)),
            ({}, {"block_sizes": [1, 32, 16], "num_stages": 2, "num_warps": 2}),
        ),
        Case(
            "cross_entropy",
            lambda: (torch.rand(10, 300), torch.arange(10)),
            ({}, {"block_sizes": [4]}, {"block_sizes": [2], "reduction_loops": [64]}),
        ),
    )
}
