"""What keeps a norm of a network in float: asked alike of ONNX graphs and of PyTorch's programs.

A reason is a few words about the norm, or about a tensor beside it; it is empty where nothing is in the way.
"""

from __future__ import annotations

INPUT_IN_FLOAT = "its input is not quantized"


def of_parameter(name: str) -> str:
    """Return what is said of a parameter that only a run tells."""
    return f"its {name} is not constant"


def of_scale(what: str, tensor: str) -> str:
    """Return what is said of the scale, or whatever `what` is, of a tensor's codes that only a run tells."""
    return f"the {what} of {tensor} is not constant"


def of_type(tensor: str, data_type: str) -> str:
    """Return what is said of codes that are no bytes."""
    return f"{tensor} is quantized to {data_type}"


def of_counts(tensor: str, scales: int, zero_points: int) -> str:
    """Return what is said of scales and zero points that do not belong together."""
    return f"{tensor} has {scales} scales and {zero_points} zero points"


def of_channels(count: int, channels: int, what: str = "scales") -> str:
    """Say whether what a norm reads is quantized by other channels than its own."""
    return "" if count in (1, channels) else f"its input has {count} {what}, it has {channels} channels"


def of_readers(quantizers: int, in_float: str) -> str:
    """Say whether what a norm makes is read in float.

    Parameters
    ----------
    quantizers : int
        How many nodes quantize it, and need nothing else.
    in_float : str
        What also reads it as it is, such as "Sigmoid s"; empty if nothing does.
    """
    if not quantizers:
        return "its output is not quantized"
    return f"its output is also read in float, by {in_float}" if in_float else ""


def of_target(*, per_tensor: bool) -> str:
    """Say whether what a norm makes has a scale for each channel, which no operator writes."""
    return "" if per_tensor else "its output is quantized per channel"
