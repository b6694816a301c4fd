"""The native module: checks of the usual call, kernels, threads. Private; arguments are what _checks returns."""

from typing import Any, Final

import numpy as np

from ._tensors.tensor import QuantizedTensor

compiler: Final[str]
version: Final[str]

class Tensor:
    def __init__(self, data: np.ndarray, scale: Any, zero_point: Any, axis: int | None) -> None: ...
    @property
    def data(self) -> np.ndarray: ...
    @property
    def scale(self) -> Any: ...
    @property
    def zero_point(self) -> Any: ...
    @property
    def axis(self) -> int | None: ...
    @property
    def _fits(self) -> bool: ...

class Operator:
    def __init__(
        self,
        weight: np.ndarray | None,
        bias: np.ndarray | None,
        mean: Any,
        var: Any,
        eps: float,
        output_scale: object,
        output_zero_point: object,
        output_signed: bool | None,
        relu: bool,
        axis: int,
    ) -> None: ...
    def norm(self, input: object, out: object | None, checked: bool) -> QuantizedTensor | None: ...
    def concat(self, pieces: object, out: object | None, checked: bool) -> QuantizedTensor | None: ...
    def add(
        self,
        a: object,
        b: object,
        sum_scale: object,
        sum_zero_point: object,
        exact: bool,
        with_sum: bool,
        out: object | None,
        sum_out: object | None,
        checked: bool,
    ) -> Any: ...
    @property
    def folds(self) -> int: ...

class TorchOperator:
    def __init__(
        self,
        buffers: dict[str, Any],
        eps: object,
        scale: object,
        zero_point: object,
        relu: bool,
        input_scale: object,
        input_zero_point: object,
        output_dtype: object,
        fewest_dimensions: int,
        most_dimensions: int,
    ) -> None: ...
    def plain(self, buffers: dict[str, Any], input: object) -> Any: ...
    def quantized(
        self, buffers: dict[str, Any], input: object, scale: object, zero_point: object, out: object
    ) -> Any: ...

def batch_norm_torch(
    x: object,
    x_scale: object,
    x_zero_point: object,
    weight: object,
    bias: object,
    mean: object,
    var: object,
    eps: object,
    y_scale: object,
    y_zero_point: object,
    output_dtype: object,
    relu: object,
    out: object,
    gradients: bool,
    checked: bool,
) -> Any: ...
def register_torch(
    tensor: object, parameter: object, empty_like: object, dtypes: tuple[object, ...], exchange: object
) -> None: ...
def batch_norm_once(
    input: object,
    weight: object | None,
    bias: object | None,
    mean: object,
    var: object,
    eps: object,
    output_scale: object,
    output_zero_point: object,
    axis: int,
    output_signed: bool | None,
    relu: bool,
    out: object | None,
    checked: bool,
) -> QuantizedTensor | None: ...
def fold(
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    mean: np.ndarray,
    var: np.ndarray,
    eps: float,
    output_scale: float,
    input: Tensor,
) -> tuple[np.ndarray, np.ndarray]: ...
def requantize(input: Tensor, scale: float, zero_point: int, output_signed: bool) -> QuantizedTensor | None: ...
def quantize(
    x: np.ndarray, y: np.ndarray, factor: np.ndarray, zero_point: np.ndarray, axis: int, rounding: int
) -> bool: ...
def dequantize(x: np.ndarray, y: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int) -> None: ...
def add_channel_sums(x: np.ndarray, axis: int, sums: np.ndarray, ends: np.ndarray) -> None: ...
def add_channel_histogram(x: np.ndarray, axis: int, counts: np.ndarray) -> None: ...
def is_tensor(object: object) -> bool: ...
def register_tensor_type(type: type[Tensor]) -> None: ...
def select_isa(name: str) -> None: ...
def isa() -> str: ...
def isas() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def default_num_threads() -> int: ...
def set_stream_from(bytes: int) -> int: ...
def set_bytes_a_thread(bytes: int) -> int: ...
def work_alone(alone: bool) -> bool: ...
def kernel_names() -> list[tuple[str, str, str]]: ...
def run_kernel(
    layout: str,
    arithmetic: str,
    isa: str,
    x: np.ndarray,
    y: np.ndarray,
    slope: np.ndarray,
    intercept: np.ndarray,
    zero_point: np.ndarray,
    output_zero_point: int,
    relu: bool,
    stream: bool = False,
    tile: int = 0,
) -> bool: ...
def fit_words(
    slope: np.ndarray,
    intercept: np.ndarray,
    zero_point: np.ndarray,
    input_signed: bool,
    output_signed: bool,
    relu: bool,
    output_zero_point: int,
) -> list[tuple[int, int, int, int, bool]]: ...
def run_average_kernel(arithmetic: str, isa: str, x: np.ndarray, y: np.ndarray) -> None: ...
def run_sum_kernel(
    arithmetic: str,
    isa: str,
    a: np.ndarray,
    b: np.ndarray,
    y: np.ndarray,
    factor_a: float,
    zero_point_a: int,
    factor_b: float,
    zero_point_b: int,
    zero_point: int,
) -> bool: ...
def run_exact_sum_kernel(
    arithmetic: str,
    isa: str,
    a: np.ndarray,
    b: np.ndarray,
    y: np.ndarray,
    scale_a: float,
    zero_point_a: int,
    scale_b: float,
    zero_point_b: int,
    weight: np.ndarray,
    bias: np.ndarray,
    output_zero_point: int,
    relu: bool,
    by_column: bool,
) -> None: ...
