"""Histograms of each tensor of a float network on data, for the quantizer's percentile and entropy methods.

ONNX Runtime's calibrator keeps what all samples make until it has seen the last: 42 MiB an image on eight small
layers. A histogram between ends that are known is a sum over samples. So a first pass finds the ends, a second one
counts, and what the calibrator is left with is the same to the bit. It searches the ranges itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnxruntime.quantization import CalibrationMethod, calibrate
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]


def measure_by_histograms(
    model: Path,
    reader: Callable[[], Any],
    method: CalibrationMethod,
    file: Path,
    extra_options: Mapping[str, Any],
    *,
    large: bool,
) -> dict[str, tuple[float, float]]:
    """Write the ranges of tensors to a file, as ONNX Runtime's quantizer reads them.

    Parameters
    ----------
    model : path
        A float network, in a folder for files that go with it.
    reader : callable
        Returns a CalibrationDataReader over all samples. It is called twice.
    method : CalibrationMethod
        Percentile or Entropy.
    file : path
        What is written.
    extra_options : dict
        Of the calibrator.
    large : bool
        Whether the network is too large for one file.

    Returns
    -------
    dict
        By tensor, its smallest and its largest value; one with an infinite value is not in the file.
    """
    calibrator = calibrate.create_calibrator(
        model,
        list({*QLinearOpsRegistry, *QDQRegistry}),
        augmented_model_path=str(model.with_name("augmented.onnx")),
        calibrate_method=method,
        use_external_data_format=large,
        extra_options=dict(extra_options),
    )
    collector = calibrate.HistogramCollector(
        calibrator.method,
        calibrator.symmetric,
        calibrator.num_bins,
        calibrator.num_quantized_bins,
        calibrator.percentile,
        calibrator.scenario,
    )
    calibrator.collector = collector
    tensors = sorted(calibrator.tensors_to_calibrate)
    counts = {tensor: _Counts(calibrator.num_bins, magnitudes=calibrator.symmetric) for tensor in tensors}

    def go_through(see: Callable[[_Counts, Array], None]) -> None:
        samples = reader()
        while feed := samples.get_next():
            for tensor, values in zip(tensors, calibrator.infer_session.run(tensors, feed), strict=True):
                see(counts[tensor], values)

    go_through(_Counts.find_ends)
    ranges = {tensor: counted.ends() for tensor, counted in counts.items()}
    tensors = [tensor for tensor in tensors if np.isfinite(ranges[tensor]).all()]
    counts = {tensor: counts[tensor] for tensor in tensors}
    go_through(_Counts.count)
    collector.histogram_dict = {tensor: counted.as_collected() for tensor, counted in counts.items()}
    calibrate.save_tensors_data(calibrator.compute_data(), file)
    return ranges


class _Counts:
    """The histogram of one tensor, of magnitudes or from the largest magnitude's negative to it.

    Parameters
    ----------
    bins : int
    magnitudes : bool
    """

    def __init__(self, bins: int, *, magnitudes: bool) -> None:
        self._bins, self._magnitudes = bins, magnitudes
        self._type: Any = np.float32
        self._ends: tuple[Any, Any] | None = None  # past NaN
        self._of_magnitudes: tuple[Any, Any] | None = None
        self._histogram: tuple[Array, Array] | None = None

    def find_ends(self, values: Array) -> None:
        """Look at the smallest and the largest value of one sample."""
        self._type = values.dtype.type
        if not values.size:
            return
        low, high = np.fmin.reduce(values, axis=None), np.fmax.reduce(values, axis=None)
        self._ends = (low, high) if self._ends is None else (min(self._ends[0], low), max(self._ends[1], high))
        if self._magnitudes:
            sizes = np.absolute(values)
            least, most = sizes.min(), sizes.max()
            if self._of_magnitudes is not None:
                least = np.minimum(least, self._of_magnitudes[0])
                most = np.maximum(most, self._of_magnitudes[1])
            self._of_magnitudes = least, most

    def ends(self) -> tuple[float, float]:
        """Return the smallest and the largest value of all samples."""
        low, high = self._ends or (0.0, 0.0)
        return float(low), float(high)

    def count(self, values: Array) -> None:
        """Count the values of one sample."""
        counted, edges = self._histogram or (None, None)
        made, edges = np.histogram(
            np.absolute(values) if self._magnitudes else values, self._bins, range=self._range()
        )
        self._histogram = made if counted is None else counted + made, edges

    def _range(self) -> tuple[Any, Any]:
        """Return the ends of the histogram as the calibrator's collector takes them of all values at once."""
        if self._magnitudes:
            return self._of_magnitudes or (0, 1)
        threshold = self._threshold()
        return -threshold, threshold

    def _threshold(self) -> Array:
        low, high = self._ends or (0, 0)
        return np.array(max(abs(low), abs(high)), self._type)

    def as_collected(self) -> tuple[Any, ...]:
        """Return what the calibrator's collector keeps of a tensor."""
        assert self._histogram is not None
        low, high = self._ends or (np.array(0, self._type), np.array(0, self._type))
        histogram, edges = self._histogram
        if self._magnitudes:
            return histogram, edges.astype(self._type), low, high
        return histogram, edges, low, high, self._threshold()
