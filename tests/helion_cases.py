"""Arguments and configurations that the kernels of `helion_kernels`, `helion_unseen` and `helion_edges` are tried with."""

from collections.abc import Callable
from dataclasses import dataclass

import helion
import torch

from tests import helion_edges, helion_kernels, helion_unseen


def halves(*shape):
    return torch.rand(shape, dtype=torch.float32).to(torch.float16)


@dataclass(frozen=True)
class Case:
    """A kernel with what it is called with."""

    name: str
    arguments: Callable[[], tuple]
    configs: tuple[dict, ...]
    of: str = ""
    """The kernel, if not of the same name."""

    @property
    def kernel(self):
        """Name of the kernel."""
        return self.of or self.name

    def bind(self):
        module = next(m for m in (helion_edges, helion_unseen, helion_kernels) if hasattr(m, self.kernel))
        return getattr(module, self.kernel).bind(self.arguments())


def whole(bound, config):
    """The default configuration with some values changed."""
    return helion.Config(**(dict(bound.config_spec.default_config()) | config))


SEEN = {
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

UNSEEN = {
    case.name: case
    for case in (
        Case(
            "gated",
            lambda: (halves(50, 200), halves(50, 200)),
            ({}, {"block_sizes": [1024]}, {"block_sizes": [4096], "num_warps": 8}),
        ),
        Case(
            "gelu_product",
            lambda: (halves(100, 72), halves(72, 120), halves(120)),
            (
                {},
                {"block_sizes": [64, 64, 32], "num_stages": 3},
                {"block_sizes": [128, 64, 64], "num_stages": 2, "num_warps": 8},
                {"block_sizes": [32, 128, 16], "l2_groupings": [2]},
            ),
        ),
        Case(
            "batched_product",
            lambda: (halves(3, 100, 72), halves(3, 72, 120)),
            ({}, {"block_sizes": [1, 64, 32, 32], "num_stages": 2}, {"block_sizes": [2, 32, 32, 16]}),
        ),
        Case(
            "divergence",
            lambda: (torch.rand(10, 300), torch.rand(10, 300)),
            ({}, {"block_sizes": [4, 128]}, {"block_sizes": [8, 256], "num_warps": 8}),
        ),
        Case(
            "welford",
            lambda: (halves(10, 300), halves(300), halves(300)),
            ({}, {"block_sizes": [4, 128, 64]}, {"block_sizes": [2, 512, 512]}),
        ),
        Case("transposed", lambda: (torch.rand(100, 70),), ({}, {"block_sizes": [32, 16]}, {"block_sizes": [64, 64]})),
        Case(
            "single_product",
            lambda: (torch.rand(100, 72), torch.rand(72, 120)),
            ({}, {"block_sizes": [64, 64, 32], "num_stages": 3}, {"block_sizes": [32, 64, 16], "num_warps": 2}),
        ),
        Case(
            "shared_weights", lambda: (halves(3, 40, 72), halves(72, 120)), ({}, {"block_sizes": [64, 32, 64], "num_stages": 2})
        ),
        Case(
            "normed_product",
            lambda: (halves(100, 72), halves(72, 64), halves(64)),
            ({}, {"block_sizes": [64, 32], "num_stages": 2}, {"block_sizes": [16, 16], "num_warps": 2}),
        ),
        Case("row_product", lambda: (halves(100, 300), halves(300)), ({}, {"block_sizes": [4, 128]}, {"block_sizes": [16, 256]})),
        Case("two_products", lambda: (halves(100, 64), halves(64, 32), halves(32, 64)), ({}, {"block_sizes": [64]})),
        Case("grid_sums", lambda: (torch.rand(3, 5, 7, 90),), ({}, {"block_sizes": [1, 2, 4]}, {"block_sizes": [1, 1, 1]})),
        Case(
            "four_axes",
            lambda: (torch.rand(3, 5, 7, 90), torch.rand(3, 5, 7, 90)),
            ({}, {"block_sizes": [1, 2, 4, 32]}, {"block_sizes": [1, 1, 8, 64], "loop_orders": [[3, 1, 2, 0]]}),
        ),
        Case("dropout", lambda: (torch.rand(1000), 3, 0.5), ({}, {"block_sizes": [512]})),
        Case("largest", lambda: (torch.rand(10, 300),), ({}, {"block_sizes": [4]})),
    )
}

EDGES = {
    case.name: case
    for case in (
        Case(
            "causal_attention",
            lambda: (halves(2, 100, 16), halves(2, 100, 16), halves(2, 100, 16)),
            (
                {},
                {"block_sizes": [1, 32, 16], "num_stages": 2, "num_warps": 2},
                {"block_sizes": [1, 16, 64]},
                {"block_sizes": [1, 16, 32], "l2_groupings": [2], "loop_orders": [[1, 0]]},
            ),
        ),
        Case(
            "causal_attention_of_whole_tiles",
            lambda: (halves(2, 64, 16), halves(2, 64, 16), halves(2, 64, 16)),
            ({"block_sizes": [1, 32, 16]}, {"block_sizes": [1, 16, 32], "num_warps": 8}, {"block_sizes": [1, 32, 32]}),
            of="causal_attention",
        ),
        Case(
            "running_sums",
            lambda: (torch.rand(50, 50),),
            ({}, {"block_sizes": [16, 8]}, {"block_sizes": [4, 32]}, {"block_sizes": [2, 1]}),
        ),
        Case("sums_before", lambda: (torch.rand(50, 50),), ({"block_sizes": [16, 8, 4]}, {"block_sizes": [8, 8, 32]})),
        Case("remaining_sums", lambda: (torch.rand(50, 50),), ({"block_sizes": [16, 8, 4]}, {"block_sizes": [8, 8, 32]})),
        Case("nested_sums", lambda: (torch.rand(20, 50),), ({"block_sizes": [4, 16, 8]}, {"block_sizes": [4, 8, 16]})),
        Case("added_row", lambda: (torch.rand(20, 72), torch.rand(1, 72)), ({}, {"block_sizes": [4, 16]})),
        Case("added_column", lambda: (torch.rand(20, 72), torch.rand(20, 1)), ({}, {"block_sizes": [4, 16]}), of="added_row"),
        Case("added_element", lambda: (torch.rand(20, 72), torch.rand(1, 1)), ({"block_sizes": [4, 16]},), of="added_row"),
        Case(
            "added_repeated_row",
            lambda: (torch.rand(20, 72), torch.rand(1, 72).expand(20, 72)),
            ({"block_sizes": [4, 16]},),
            of="added_row",
        ),
        Case("copied", lambda: (torch.rand(72, 20).t(),), ({}, {"block_sizes": [16, 16]})),
        Case("weights_transposed", lambda: (halves(100, 72), halves(120, 72).t()), ({"block_sizes": [32, 64, 16]},), of="matmul"),
        Case("gated_by_itself", lambda: (torch.rand(20, 72),), ({}, {"block_sizes": [4, 16]})),
    )
}
CASES = SEEN | UNSEEN | EDGES
