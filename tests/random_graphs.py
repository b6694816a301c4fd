"""Small random quantized graphs with norms, lowered in every way and compared with their own arithmetic.

A graph is a list of tensors of codes; each knows, in float64, which numbers it would have before they are rounded.
Every tensor of codes that a lowered model still makes is compared with that, computed from the codes that the same
run made before it: what is wrong is found where it is wrong, and bounds are those of one step. What a lowering may
leave out, the rounding of a sum, of a concatenation, between two steps of a norm, is tried both ways, and a code
may lie between. A rounding that ends at 0 may be a dropped Relu: that part of it is never left out.

    python tests/random_graphs.py --cases 1000 --seed 7
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings

import numpy as np
import onnx
import onnxruntime as ort
from graph_builder import RandomGraph
from graph_numbers import mismatches

from bytenorm import onnx as bno
from bytenorm.onnx.lowering.lower import lower_with_report

LOWERINGS = ("portable", "exact", "fused", "qdq")


def run(model, feeds, tensors):
    """Return the codes of all tensors that a model makes, in the types that they had."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    for node in exposed.graph.node:  # ONNX Runtime refuses two of one name
        node.name = ""
    there = {name for node in exposed.graph.node for name in node.output}
    outputs = {v.name for v in exposed.graph.output}
    wanted = [t for t in tensors if t.name in there]
    exposed.graph.output.extend(onnx.ValueInfoProto(name=t.name) for t in wanted if t.name not in outputs)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = bno.session(exposed, options)
    made = dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))
    found = {}
    for tensor in tensors:
        codes = feeds.get(tensor.name, made.get(tensor.name))
        if codes is None:
            continue
        if codes.shape != tensor.shape:
            raise AssertionError(f"{tensor.name} has the shape {codes.shape}, not {tensor.shape}")
        if codes.dtype != tensor.q.dtype:  # 128 higher or lower: the same numbers
            codes = (codes.view(np.uint8) ^ 0x80).view(tensor.q.dtype)
        found[tensor.name] = codes
    for tensor in tensors:  # of equal conversions one may be left
        for one, other in ((tensor.name, tensor.twin), (tensor.twin, tensor.name)):
            if tensor.twin and one not in found and other in found:
                found[one] = found[other]
    return found


def check(seed):
    """Build the graph of a seed, lower it in every way, and return what is wrong, one line each."""
    builder = RandomGraph(seed)
    model = builder.build()
    tensors = builder.tensors + builder.hidden
    onnx.checker.check_model(model)
    found = run(model, builder.feeds, tensors)
    wrong = [f"untouched: {t.name} is off by {off:.3f}" for t, off in mismatches(tensors, found, "")]
    if wrong:
        return wrong
    before = model.SerializeToString(deterministic=True)
    for lowering in LOWERINGS:
        keep = bool(builder.rng.integers(2))
        made, _ = lower_with_report(model, lowering=lowering, keep_int8=keep)
        onnx.checker.check_model(made)
        if model.SerializeToString(deterministic=True) != before:
            wrong.append(f"{lowering}: the model was changed")
        if {o.name for o in made.graph.output} != {o.name for o in model.graph.output}:
            wrong.append(f"{lowering}: other outputs")
        found = run(made, builder.feeds, tensors)
        missing = [v.name for v in model.graph.output if v.name.startswith("q") and v.name not in found]
        wrong += [f"{lowering}: the output {name} is gone or of another shape" for name in missing]
        wrong += [f"{lowering}{' keep_int8' * keep}: {t.name} is off by {off:.3f}"
                  for t, off in mismatches(tensors, found, lowering)]  # fmt: skip
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=1000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (default: %(default)s)")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    failed = 0
    for seed in range(arguments.seed, arguments.seed + arguments.cases):
        try:
            wrong = check(seed)
        except Exception:
            wrong = [traceback.format_exc()]
        failed += bool(wrong)
        for line in wrong:
            print(f"seed {seed}: {line}", flush=True)
    print(f"{failed} of {arguments.cases} graphs are wrong")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
