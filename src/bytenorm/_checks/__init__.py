"""Every check of an argument and every message of the core.

Each function takes what a caller passed and returns it in the one form that the rest of the package works
with, or raises an error. That is one as `_errors` has them: a ValueError (values, shapes) or TypeError (types).
The usual call never comes here: the native code checks it and asks for words only when it refuses.
"""

from .arrays import as_array, frozen, real_input
from .norms import (
    Parameters,
    epsilon,
    norm_input,
    norm_parameters,
    norm_pieces,
    norm_summands,
    overflow,
    parameter,
    sum_quantization,
)
from .numbers import any_axis, axis, choice, dtype, flag, in_storage, instance, integer, missing, real, std_given
from .outputs import add_output, concat_output, output, sum_output
from .quantization import (
    channel_quantization,
    quantized,
    scale,
    scales,
    tensor_data,
    tensor_quantization,
    zero_point,
)
from .statistics import (
    MOST_CODES,
    Quantization,
    channel_count,
    code_count,
    equal_quantizations,
    same_quantization,
    statistics_input,
)
from .values import is_a

__all__ = [
    "MOST_CODES",
    "Parameters",
    "Quantization",
    "add_output",
    "any_axis",
    "as_array",
    "axis",
    "channel_count",
    "channel_quantization",
    "choice",
    "code_count",
    "concat_output",
    "dtype",
    "epsilon",
    "equal_quantizations",
    "flag",
    "frozen",
    "in_storage",
    "instance",
    "integer",
    "is_a",
    "missing",
    "norm_input",
    "norm_parameters",
    "norm_pieces",
    "norm_summands",
    "output",
    "overflow",
    "parameter",
    "quantized",
    "real",
    "real_input",
    "same_quantization",
    "scale",
    "scales",
    "statistics_input",
    "std_given",
    "sum_output",
    "sum_quantization",
    "tensor_data",
    "tensor_quantization",
    "zero_point",
]
