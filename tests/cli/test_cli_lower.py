"""``bytenorm lower``."""

import re
import warnings
from pathlib import Path

import onnx
import pytest
from command_line import as_json, documented, keys_of, parsed

from bytenorm import onnx as bno


@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
def test_lower_writes_what_the_library_makes(lowering, made, place, output):
    out = output("lower", made / "stock.onnx", "-o", "made.onnx", "--lowering", lowering)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bno.LoweringWarning)
        assert onnx.load_model("made.onnx") == bno.lower(made / "stock.onnx", lowering=lowering)
    alone = ", single: it reads the input x" if lowering == "fused" else ""
    assert re.search(rf"^first +2  runs in 8 bits{alone}$", out, re.MULTILINE)
    assert re.search(r"^seen +2  stays in float: its output is also read in float", out, re.MULTILINE)
    assert "\n2 batch norms: 0 folded, 1 in 8 bits, 1 left in float\n" in out
    assert ("\nsingle: an operator for the norm alone" in out) == (lowering == "fused")
    assert "\nwritten to made.onnx\n" in out
    assert out.endswith(f"\nnext: bytenorm bench {made}/stock.onnx made.onnx\n")


def test_lower_says_that_it_found_nothing_to_do(place, output):
    Path("plain.onnx").write_bytes(
        parsed(
            """g (uint8[N, 2] x) => (float[N, 2] y) <float s = {0.1}, uint8 z = {128}>
            { y = DequantizeLinear (x, s, z) }"""
        )
    )
    out = output("lower", "plain.onnx", "-o", "made.onnx")
    assert "\nno batch norm found\n" in out
    assert out.endswith(
        "\nnothing was lowered: no norm could go into 8 bits, and the model computes what it did\n"
    )
    assert "next:" not in out


def test_lower_as_json(made, place, output, capsys):
    found = as_json(output("lower", made / "stock.onnx", "-o", "made.onnx", "--json"))
    assert (found["in_8_bits"], found["in_float"], found["lowering"]) == (1, 1, "portable")
    assert found["size_after"] == Path("made.onnx").stat().st_size
    assert [norm["became"] for norm in found["norms"]] == ["8-bit", "float"]
    assert found["norms"][1]["problem"].startswith("its output is also read in float")
    assert keys_of(found) <= documented(capsys, "lower")
