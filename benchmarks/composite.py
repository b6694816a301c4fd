"""Norms in torch's own operators on integers, compiled by Inductor: ``python -m benchmarks.composite``.

Beside the same norm in float (dequantized, normalized, clamped, quantized), compiled as well, and the kernel.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import bytenorm as bn
from bytenorm import torch as bt

from . import machine, report
from .output import add_markdown, publish
from .timing import Contestant, Method, measure

SHAPES = (
    ((1, 64, 56, 56), torch.contiguous_format),
    ((8, 64, 56, 56), torch.contiguous_format),
    ((1, 256, 56, 56), torch.channels_last),
    ((1, 1024, 14, 14), torch.contiguous_format),
)
X_SCALE, X_ZERO_POINT, Y_SCALE, Y_ZERO_POINT = 0.0213, 11, 0.0507, 7
METHOD = Method(rounds=101, dropped=10, clock=time.process_time)
ABOUT = (
    "Microseconds of CPU time a call of an exported program, one thread, medians of contestants that take turns; "
    "the spread is from the 10th to the 90th percentile. `integers` is what `to_integers` writes, compiled by "
    "Inductor; `float` is the norm with its conversions in float, compiled as well; `kernel` is bytenorm's "
    "operator. A part of each call, the same for all, is torch's. The integers give the kernel's codes, which is "
    "checked."
)


class Norm(nn.Module):
    """A norm of codes by bytenorm's operator."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (
            ("weight", torch.rand(channels) + 0.5),
            ("bias", torch.randn(channels)),
            ("mean", torch.randn(channels)),
            ("var", torch.rand(channels) + 0.5),
        ):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Return codes."""
        y: Tensor = torch.ops.bytenorm.batch_norm(
            x, X_SCALE, X_ZERO_POINT, self.weight, self.bias, self.mean, self.var, 1e-5, Y_SCALE, Y_ZERO_POINT,
            torch.uint8, True,
        )  # fmt: skip
        return y


class InFloat(Norm):
    """The same norm between conversions."""

    def forward(self, x: Tensor) -> Tensor:
        """Return codes."""
        real = (x.to(torch.float32) - X_ZERO_POINT) * X_SCALE
        vectors: tuple[Any, Any, Any, Any] = self.mean, self.var, self.weight, self.bias
        y = nn.functional.batch_norm(real, *vectors, training=False, eps=1e-5).relu()
        return torch.clamp(torch.round(y * (1 / Y_SCALE)) + Y_ZERO_POINT, 0, 255).to(torch.uint8)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the report and write it to a file."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.composite", description=__doc__)
    add_markdown(parser)
    options = parser.parse_args(arguments)
    about = machine.describe()
    torch.set_num_threads(1)
    bn.set_num_threads(1)
    rows = []
    for shape, memory_format in SHAPES:
        sys.stderr.write(f"{shape}\n")
        rows.append(_row(shape, memory_format))
    columns = ["", "integers, us", "p10 to p90", "float, us", "p10 to p90", "kernel, us", "integers / float"]
    blocks: list[report.Block] = [
        report.Heading("Norms on integers, compiled", 1),
        report.Text(ABOUT),
        *report.of_machine(about),
        report.Heading("Times", 2),
        report.Table(columns, rows),
    ]
    text = report.markdown(blocks)
    publish(text, options.markdown)
    return 0


def _row(shape: tuple[int, ...], memory_format: torch.memory_format) -> list[str]:
    torch._dynamo.reset()
    torch.manual_seed(0)
    norm, in_float = Norm(shape[1]), InFloat(shape[1])
    in_float.load_state_dict(norm.state_dict())
    x = torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(memory_format=memory_format)
    kernel = _exported(norm, x)
    integers = torch.compile(bt.to_integers(kernel), dynamic=False)
    compiled = torch.compile(_exported(in_float, x), dynamic=False)
    runs: dict[str, Callable[[Tensor], Tensor]] = {"integers": integers, "float": compiled, "kernel": kernel}
    with torch.no_grad():
        if not torch.equal(runs["integers"](x), runs["kernel"](x)):
            raise RuntimeError(f"{shape}: the integers give other codes than the kernel")
        contestants = [
            Contestant(name, "other", "run(x)", {"run": run, "x": x}, x.numel()) for name, run in runs.items()
        ]
        times = measure(contestants, METHOD, lambda _done, _whole: None)
    layout = "channels-last" if memory_format is torch.channels_last else "NCHW"
    cells = []
    for one in times:
        cells += [f"{one.median * 1e6:.0f}", f"{one.p10 * 1e6:.0f} to {one.p90 * 1e6:.0f}"]
    ratio = times[0].median / times[1].median
    return ["x".join(map(str, shape)) + f", {layout}", *cells[:5], f"{ratio:.2f}"]


def _exported(module: nn.Module, x: Tensor) -> Any:
    return torch.export.export(module, (x,)).module(check_guards=False)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
