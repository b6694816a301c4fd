"""ONNX Runtime's static quantizer on a float model whose batch norms are marked, as often as it is wanted.

Long, for it is one class, a model on its way through the quantizer, run after run.
"""

from __future__ import annotations

import copy
import math
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper
from onnxruntime import quantization as ort_quantization
from onnxruntime.quantization import calibrate
from onnxruntime.quantization.shape_inference import quant_pre_process

from ..._errors import bad_value
from ..graph.captured import guard_captured
from ..graph.graph import Graph, is_op, label
from ..graph.quantizer_names import NODE
from ..model.files import save_model
from ..norms.conversions import make_standard
from ..norms.surroundings import activation_limits
from ..observation.histograms import measure_by_histograms
from ..observation.moments import all_that_are_corrected
from ..observation.ranges import are_samples_apart, measure
from ..scales.fitting_sums import fit_sums
from .calls import METHODS, by_strides, failure, is_large, quiet, takes_ranges
from .chosen_nodes import ChosenNodes
from .clashes import Clashes, twice_defined
from .exclusion import lost_activations, namesakes, needed_activations, with_name
from .extra_options import ExtraOptions
from .plain_layers import add_to_products, make_layers_plain
from .reader import Reader, counted, stage
from .weak_spots import around, masks, squashing_ends, without_range

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Set

    from ...calibration.moments import Moments
    from ..data.dataset import Dataset
    from ..data.samples import Samples
    from ..disguise.norms_as_convs import Marks
    from ..norms.norm import Norm, Parameters
    from .reader import Progress


class StaticQuantizer:
    """A prepared float model and what it is quantized with.

    Ranges of tensors are measured once and kept, where ONNX Runtime's quantizer can be given them, as that of 1.32
    can. An older one measures them in each run.

    Parameters
    ----------
    model : onnx.ModelProto
        In float. Not changed.
    borders : set of str
        The tensors before and behind its norms.
    marks : Marks
        Its norms.
    excluded : collection of str
        The names of nodes that stay as they are.
    data : Dataset
        What ranges are measured on.
    options : dict
        Of ``quantize_static``.
    extra : ExtraOptions, optional
        The `extra_options` among these.
    asked : ChosenNodes, optional
        What was asked for by name or type: it is quantized even where it only loses in 8 bits.
    watched : Samples, optional
        Of the data: those on which the moments that corrections want are measured, along with the ranges.
    chosen : bool
        Whether :meth:`set_output` will be called.
    sums_fit : bool
        Whether scales of weights are as wide as their sums need on CPUs without VNNI.
    progress : callable, optional
        Called with the stage, how much of it is done, and how much there is.

    Raises
    ------
    ValueError
        If ONNX Runtime cannot prepare the model.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        borders: Set[str],
        marks: Marks,
        excluded: Collection[str],
        data: Dataset,
        options: Mapping[str, Any],
        *,
        extra: ExtraOptions | None = None,
        asked: ChosenNodes | None = None,
        watched: Samples | None = None,
        chosen: bool = False,
        sums_fit: bool = True,
        progress: Progress | None,
    ) -> None:
        self._extra, self._asked = extra or ExtraOptions(), asked or ChosenNodes()
        self._marks, self._data, self._options, self._progress = marks, data, dict(options), progress
        self._overrides: dict[str, list[dict[str, Any]]] = {}
        self._ranges: bytes | None = None
        self._watched, self._fits_sums = watched, sums_fit
        self.moments: Mapping[str, Moments] = {}  # of tensors of the float graph, on what is watched
        with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder, quiet():
            before, behind = (str(Path(folder, name)) for name in ("float.onnx", "prepared.onnx"))
            try:
                # The preparation merges a convolution with what is around it. A mark has to stay what it is, and
                # an excluded norm where it is: what is an output of the model is merged with nothing.
                outputs = {v.name for v in model.graph.output}
                model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(borders - outputs))
                save_model(model, before)
                quant_pre_process(before, behind, skip_symbolic_shape=True, save_as_external_data=is_large(model))
                prepared = onnx.load_model(behind)
            except Exception as error:
                raise failure(error) from error
        for value in [v for v in prepared.graph.output if v.name not in outputs]:
            prepared.graph.output.remove(value)
        self._passed = _without_passed(prepared.graph)
        self._graph = graph = Graph(prepared)
        self.gone = tuple(sorted(set(excluded) - {node.name for node in graph.nodes}))
        quant_format = self._options["quant_format"].name
        # A mark is lifted again, so its weight may have one scale: the quantizer takes 0.1 ms for each. In
        # QOperator format it asks for an axis.
        self._per_tensor = bool(self._options.get("per_channel")) and quant_format == "QDQ"
        by_axis = any("axis" in said for of in self._extra.overrides.values() for said in of)
        by_channel = self._per_tensor or (by_axis and quant_format == "QDQ")
        self._adds = make_layers_plain(graph, {*excluded, *marks.norms}, split_groups=by_channel)
        needed = needed_activations(graph, marks.norms, quant_format, chosen=chosen)
        ends = [node for node in squashing_ends(graph) if node.name not in excluded]
        weak = [node for node in ends if not self._asked.names_it(node)]
        self.weak = tuple(f"{node.op_type} {label(node)}" for node in weak)
        left = [*(node for node in graph.nodes if node.name in excluded), *needed, *weak, *namesakes(graph)]
        names = [with_name(graph, node) for node in left]
        graph.finish()
        self._clashes = Clashes(prepared)
        self._held = _as_outputs(Graph(prepared)) if quant_format == "QOperator" else set()
        self._options["nodes_to_exclude"] = [self._clashes.renamed_node(name) for name in names]
        self._graph = Graph(prepared)
        self._lifted: dict[str, str] = {}  # the marks, by what the norms of the last run make
        self._said = self._of_tensors()  # what is said of single tensors, in the quantizer's names
        self.said = {*self._extra.overrides, *(name for names in self._said for name in names)}
        if chosen and (both := [name for mark in marks.norms for name in self.outputs(mark) if name in self.said]):
            raise bad_value(
                "extra_options", f": TensorQuantOverrides[{both[0]!r}] says what the norms' method says"
            )

    def _of_tensors(self) -> dict[tuple[str, ...], list[dict[str, Any]]]:
        """Return what TensorQuantOverrides say, by the tensors that they are said of.

        All that has the quantization of a norm's output gets it, whichever is named.

        Raises
        ------
        ValueError
            If the network has no such tensor.
        """
        named = {name for node in self._graph.nodes for name in (*node.input, *node.output)}
        together = [tuple(self.outputs(mark)) for mark in self.norms]
        found = {}
        for tensor in self._extra.overrides:
            name = self._clashes.renamed(tensor)
            if name not in named:
                raise bad_value(
                    "extra_options",
                    f": TensorQuantOverrides[{tensor!r}]: there is no such tensor once norms are "
                    "folded or disguised and ONNX Runtime has prepared the model",
                )
            said = self._extra.override(tensor, constant=self._graph.constant(name) is not None)
            found[next((names for names in together if name in names), (name,))] = said
        return found

    def _require_taken(self, made: onnx.ModelProto) -> None:
        """Require that the quantizer gave each tensor that something is said of a scale."""
        there = {tensor.name for tensor in made.graph.initializer}
        for names in self._said:
            if not any(f"{name}_scale" in there for name in names):
                raise bad_value(
                    "extra_options",
                    f": TensorQuantOverrides[{names[0]!r}]: the quantizer gives it no scale of its "
                    "own: it leaves it in float, gives it that of another tensor, or drops what is behind it",
                )

    @property
    def quantizes_biases(self) -> bool:
        """Whether layers have biases in 32 bits."""
        return bool(self._extra.values.get("QuantizeBias", True))

    @property
    def symmetric(self) -> bool:
        """Whether zero points of activations are in the middle of the codes."""
        return bool(self._extra.values.get("ActivationSymmetric"))

    @property
    def qparams(self) -> Callable[..., tuple[float, int]] | None:
        """From a range to a scale and a zero point; None: those that cover it with all codes."""
        return self._extra.qparams if self._extra.shape_qparams else None

    def outputs(self, mark: str) -> list[str]:
        """Return what has the quantization of a norm's output: what a mark makes, and activations behind it.

        An activation that the quantizer drops leaves its name to the tensor in QDQ format, and not in QOperator
        format.
        """
        output = self._marks.node(self._graph, mark).output[0]
        tensors = [output, *(activation.output[0] for activation in self._activations(mark))]
        reader = self._graph.only_reader(tensors[-1])
        # Behind a Clip that stays in float, what makes vectors of a norm's images again has a range of its own.
        if reader is not None and self._marks.makes_vectors(mark, reader):
            tensors.append(reader.output[0])
        return tensors

    def set_output(self, mark: str, scale: float, zero_point: int) -> None:
        """Let :meth:`outputs` have this quantization in further runs."""
        signed = self._options["activation_type"] == ort_quantization.QuantType.QInt8
        zeros = np.array(zero_point, np.int8 if signed else np.uint8)
        for tensor in self.outputs(mark):
            self._overrides[tensor] = [{"scale": np.array(scale, np.float32), "zero_point": zeros}]

    def limits(self, mark: str) -> tuple[float, float]:
        """Return what the activations right behind a mark let through."""
        low, high = -math.inf, math.inf
        for activation in self._activations(mark):
            limits = activation_limits(self._graph, activation)
            assert limits is not None
            low, high = (min(max(end, limits[0]), limits[1]) for end in (low, high))
        return low, high

    def _activations(self, mark: str) -> Iterator[onnx.NodeProto]:
        """Yield each Relu or Clip with constant limits that alone reads what a mark, or one before it, makes.

        That is asked of the prepared graph: what was between them in the model may be gone there, and two may have
        become one.
        """
        behind = self._graph.only_reader(self._marks.node(self._graph, mark).output[0])
        while behind is not None and activation_limits(self._graph, behind) is not None:
            yield behind
            behind = self._graph.only_reader(behind.output[0])

    def set_parameters(self, mark: str, parameters: Parameters) -> None:
        """Give a norm other parameters. Ranges are measured again then."""
        self._marks.change(self._graph, mark, parameters)
        self._ranges, self.moments = None, {}

    @property
    def norms(self) -> Mapping[str, Norm]:
        """The norms, as they were in float, by mark."""
        return self._marks.norms

    @property
    def float_graph(self) -> Graph:
        """The prepared model in float, with a mark for each norm."""
        return self._graph

    def feed(self, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what :attr:`float_graph` is fed for a batch of the model's inputs."""
        return {self._clashes.renamed(name): array for name, array in batch.items()}

    def counterpart(self, made: onnx.NodeProto) -> onnx.NodeProto | None:
        """Return the node in float of a layer of the quantized graph, or the mark of a norm, if there is one."""
        nodes = self._float_nodes
        mark = self._lifted.get(made.output[0])
        if mark is not None:
            return nodes.get(mark)
        name = self._clashes.renamed_node(made.name)
        return nodes.get(name) or nodes.get(name.removesuffix(NODE))

    @property
    def made(self) -> Mapping[str, str]:
        """What the norms of the last run's graph make, by mark."""
        return {mark: output for output, mark in self._lifted.items()}

    @cached_property
    def _samples_are_apart(self) -> bool:
        return are_samples_apart(self._graph)

    @cached_property
    def _float_nodes(self) -> Mapping[str, onnx.NodeProto]:
        return {node.name: node for node in self._graph.nodes}

    def run(self, name: str = "") -> tuple[Graph, dict[str, onnx.NodeProto]]:
        """Quantize.

        Parameters
        ----------
        name : str, optional
            Of this run, for `progress`.

        Returns
        -------
        graph : Graph
            Of a new model in 8 bits, with the norms in float between conversions.
        nodes : dict
            By mark, the nodes of the norms.

        Raises
        ------
        ValueError
            If ONNX Runtime cannot quantize the model, or if the data is bad.
        """
        method = self._options["calibrate_method"]
        reader = Reader(
            self._data,
            stage(self._progress, f"{name}: calibrate" if name else "calibrate"),
            {info.name: self._clashes.renamed(info.name) for info in self._data.inputs},
            one_by_one=method != METHODS["minmax"] and self._samples_are_apart,
        )
        self._extra.require_batches(len(reader))
        with tempfile.TemporaryDirectory(prefix="bytenorm-") as folder, quiet():
            before, behind, ranges = (Path(folder, name) for name in ("prepared.onnx", "8bit.onnx", "ranges.json"))
            options = self._all_options()
            if takes_ranges():
                options["calibration_cache_path"] = ranges
                if self._ranges is not None:
                    ranges.write_bytes(self._ranges)
            try:
                options["use_external_data_format"] = is_large(self._graph.model)
                save_model(self._graph.model, before)
                minmax = method == METHODS["minmax"]
                if not takes_ranges():
                    options = options if minmax else by_strides(options)
                elif self._ranges is None and not (minmax and self._extra.want_the_calibrator):
                    self._leave(self._measure(before, reader, ranges, method), ranges, before)
                ort_quantization.quantize_static(str(before), str(behind), reader, **options)
            except Exception as error:
                if reader.error is not None:
                    raise reader.error from None
                raise failure(
                    error, cut=any(axis is not None for axis in self._data.batch_axes.values())
                ) from error
            if ranges.exists():
                self._ranges = ranges.read_bytes()
            made = onnx.load_model(behind)
        lost = lost_activations(self._graph, made)
        if lost:
            self._options["nodes_to_exclude"] += [with_name(self._graph, node) for node in lost]
            return self.run(name)
        twice = twice_defined(made.graph)
        if twice:
            raise bad_value("model", f": ONNX Runtime's quantizer defines the tensor {twice!r} twice")
        self._require_taken(made)
        for value in [v for v in made.graph.output if v.name in self._held]:
            made.graph.output.remove(value)
        for at, value in self._passed:
            made.graph.output.insert(at, value)
            made.graph.output[at].name = self._clashes.renamed(value.name)
        self._clashes.undo(made)
        graph = Graph(made)
        changed = [make_standard(graph), add_to_products(graph, self._adds), guard_captured(graph)]
        if any(changed):
            graph = graph.finished()
        if self._fits_sums:
            fit_sums(graph, self._graph.constant, self.said)
        nodes = self._marks.lift(graph)
        self._lifted = {node.output[0]: mark for mark, node in nodes.items()}
        return graph, nodes

    def _all_options(self) -> dict[str, Any]:
        """Return what ONNX Runtime's quantizer is called with."""
        constants = {tensor.name for tensor in self._graph.model.graph.initializer}
        extra, overrides = self._extra.handed(constants), {**self._overrides}
        extra.pop("TensorQuantOverrides", None)
        if self._per_tensor:
            overrides.update((weight, [{}]) for weight in self._marks.weights(self._graph))
        overrides.update((name, copy.deepcopy(said)) for names, said in self._said.items() for name in names)
        if overrides:
            extra["TensorQuantOverrides"] = overrides
        return {**self._options, "extra_options": extra}

    def _measure(
        self, model: Path, reader: Reader, file: Path, method: ort_quantization.CalibrationMethod
    ) -> dict[str, tuple[float, float]]:
        """Find the ranges of tensors, and the moments that are wanted; return the ends of each tensor."""
        if method != METHODS["minmax"]:
            large, of_calibrator = is_large(self._graph.model), self._extra.of_calibrator()
            return measure_by_histograms(model, reader.again, method, file, of_calibrator, large=large)
        samples, norms = self._watched, self._marks.norms
        batches = iter(reader.get_next, None)
        if samples is None:
            measure(model, batches, norms, file)
        else:
            apart = self._samples_are_apart  # the batches are cut anew
            whole = samples.whole and apart
            first = [*samples.measured, *samples.aside] if whole else samples.measured
            watched = counted(list(map(self.feed, first)), stage(self._progress, "calibrate"))
            watch = all_that_are_corrected(self._graph, norms)
            self.moments = measure(model, batches, norms, file, watch, watched, whole=whole, apart=apart)
        found = calibrate.load_tensors_data(file)
        ends = {tensor: [float(np.ravel(end)[0]) for end in of.range_value] for tensor, of in found.items()}
        return {tensor: (low, high) for tensor, (low, high) in ends.items()}

    def _leave(self, ranges: Mapping[str, tuple[float, float]], file: Path, model: Path) -> None:
        """Leave in float what cannot be in 8 bits by its range.

        What has no range is taken out of a file of ranges, and the file of a model gets the names of what is left.
        """
        endless = without_range(ranges)
        if endless:
            found = calibrate.load_tensors_data(file)
            left = {tensor: of for tensor, of in found.items() if tensor not in endless}
            calibrate.save_tensors_data(calibrate.TensorsData(found.calibration_method, left), file)
        hiding = [node for node in masks(self._graph, ranges) if not self._asked.names_it(node)]
        known = self._options["nodes_to_exclude"]
        nodes = {id(node): node for node in (*around(self._graph, endless), *hiding) if node.name not in known}
        if nodes:
            self.weak += tuple(f"{node.op_type} {label(node)}" for node in nodes.values())
            known += [with_name(self._graph, node) for node in nodes.values()]
            save_model(self._graph.model, model, force=True)


def _as_outputs(graph: Graph) -> set[str]:
    """Make what subgraphs and Where nodes read an output of the model too: QOperator format leaves codes alone."""
    read = {*graph.held, *(name for node in graph.nodes if is_op(node, "Where") for name in node.input)}
    held = {name for name in read if graph.maker(name) is not None} - graph.outputs
    for name in sorted(held):
        graph.proto.output.append(helper.make_tensor_value_info(name, *graph.type_of(name)))
    return held


def _without_passed(graph: onnx.GraphProto) -> list[tuple[int, onnx.ValueInfoProto]]:
    """Take out outputs that are inputs; return each with its place.

    In QDQ format the quantizer gives an output's name to what it dequantizes, and the input has it already.
    """
    inputs = {value.name for value in graph.input}
    found = [(at, value) for at, value in enumerate(graph.output) if value.name in inputs]
    if len(found) == len(graph.output):
        return []
    for _, value in found:
        graph.output.remove(value)
    return found
