"""Small models with every operator that the package interprets, for fuzzing to begin with and for damages."""

import onnx

_NUMBERS = (
    "float s = {0.1}, uint8 z = {128}, float t = {0.2}, uint8 u = {100}, int8 i = {3}, "
    "float[2] scale = {1.0, 0.5}, float[2] bias = {0.0, 1.0}, float[2] mean = {0.1, -0.1}, "
    "float[2] var = {1.0, 2.0}, "
    "float wide = {0.3}, uint8 middle = {120}"
)


def _seed(shapes, body, *, numbers="", opset=17):
    domains = "".join(f', "{name}": 1' for name in ("com.microsoft", "bytenorm") if f"{name}." in body)
    numbers = _NUMBERS + (f", {numbers}" if numbers else "")
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}{domains}]> seed {shapes} <{numbers}> {{ {body} }}'
    )


_NORM = "n = BatchNormalization (r, scale, bias, mean, var)"
_BYTES = "(uint8[N, 2, 4, 4] x) => (uint8[N, 2, 4, 4] y)"
_TWO = "(uint8[N, 1, 4, 4] a, uint8[N, 1, 4, 4] b) => "
_COLUMNS = "float[1, 2, 1, 1] gain = {1.5, -0.5}, float[1, 2, 1, 1] shift = {1.0, 0.5}"
_QCOLUMNS = "uint8[1, 2, 1, 1] gain = {15, 5}, uint8[1, 2, 1, 1] shift = {10, 5}, uint8 zero = {7}"

SEEDS = {
    "clip": _seed(
        _BYTES,
        f"r = DequantizeLinear (x, s, z) {_NORM} c = Clip (n, low, high) y = QuantizeLinear (c, t, u)",
        numbers="float low = {-1.0}, float high = {6.0}",
    ),
    "channels": _seed(
        "(uint8[N, 2, 4, 4] x) => (int8[N, 2, 4, 4] y)",
        f"r = DequantizeLinear <axis: int = 1> (x, ss, zz) {_NORM} y = QuantizeLinear <axis: int = 1> (n, t, i)",
        numbers="float[2] ss = {0.1, 0.2}, uint8[2] zz = {3, 128}",
    ),
    "int8": _seed(
        "(float[N, 2, T] x) => (float[N, 2, T] y)",
        f"q = QuantizeLinear (x, s, i) r = DequantizeLinear (q, s, i) {_NORM} a = Relu (n) "
        "p = QuantizeLinear (a, t, i) y = DequantizeLinear (p, t, i)",
    ),
    "own-conversions": _seed(
        _BYTES,
        f"r = com.microsoft.DequantizeLinear (x, s, z) {_NORM} y = com.microsoft.QuantizeLinear (n, t, u)",
    ),
    "epsilon": _seed(
        "(uint8[N, 2] x) => (uint8[N, 2] y)",
        "r = DequantizeLinear (x, s, z) y = QuantizeLinear (n, t, u) "
        "n = BatchNormalization <epsilon: float = 0.001, momentum: float = 0.9, training_mode: int = 0> "
        "(r, scale, bias, mean, var)",
    ),
    "old": _seed(
        "(float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)",
        "q = QuantizeLinear (x, s, z) r = DequantizeLinear (q, s, z) "
        "n = BatchNormalization <spatial: int = 1> (r, scale, bias, mean, var) "
        "a = Clip <min: float = 0.0, max: float = 6.0> (n) p = QuantizeLinear (a, t, u) "
        "y = DequantizeLinear (p, t, u)",
        opset=10,
    ),
    "moves": _seed(
        "(uint8[1, 4, 4, 2] x) => (uint8[1, 2, 16] y)",
        "d = DequantizeLinear (x, s, z) m = Transpose <perm: ints = [0, 3, 1, 2]> (d) r = Identity (m) "
        f"{_NORM} c = Clip (n, low) o = MaxPool <kernel_shape: ints = [1, 1], strides: ints = [1, 1]> (c) "
        "h = Unsqueeze (o, axes) g = Squeeze (h, axes) f = Reshape (g, shape) y = QuantizeLinear (f, t, u)",
        numbers="float low = {0.0}, int64[1] axes = {0}, int64[3] shape = {1, 2, 16}",
    ),
    "picks": _seed(
        "(uint8[1, 2, 4, 4] x, uint8[1, 2, 4, 4] b) => (uint8[1, 2, 4, 14] y, uint8[1, 2, 1, 1] F)",
        "d = DequantizeLinear (x, s, z) e = DequantizeLinear (b, t, u) j = Concat <axis: int = 2> (d, d) "
        "f = Slice (j, one, nine, two, two) g = Pad <mode: string = \"constant\"> (f, pads, nothing) "
        "h, o = Split <axis: int = -1> (e, halves) k = Tile (h, repeats) l = Gather <axis: int = 2> (k, places) "
        'm = Resize <mode: string = "nearest", coordinate_transformation_mode: string = "asymmetric", '
        'nearest_mode: string = "floor"> (l, , scales) c = Slice (m, one, nine, two) '
        "G = ReduceMax <axes: ints = [2], keepdims: int = 1> (g) p = ReduceMin <axes: ints = [3]> (c) "
        "w = Expand (G, shape) a = SpaceToDepth <blocksize: int = 1> (w) v = Concat <axis: int = 3> (a, a) "
        "A = DepthToSpace <blocksize: int = 1, mode: string = \"DCR\"> (v) r = Max (A, A) "
        f"{_NORM} B = Pad (n, pads) C = QuantizeLinear (B, t, u) y = Slice (C, nothing1, four, two) "
        f"D = GlobalMaxPool (p) {_NORM.replace('n =', 'E =').replace('(r,', '(D,')} F = QuantizeLinear (E, t, u)",
        numbers="int64[1] one = {1}, int64[1] nine = {9}, int64[1] two = {2}, int64[8] pads = "
        "{0, 0, 1, 1, 0, 0, 0, 1}, float nothing = {0.0}, int64[2] halves = {1, 3}, int64[4] repeats = "
        "{1, 1, 2, 1}, int64[3] places = {1, 0, 1}, float[4] scales = {1.0, 1.0, 2.0, 2.0}, int64[4] shape = "
        "{1, 2, 4, 1}, int64[1] nothing1 = {0}, int64[1] four = {4}",
    ),
    "into-layers": _seed(
        "(uint8[1, 2, 4, 4] x) => (uint8[1, 2, 4, 4] y, uint8[1, 2] v)",
        "r = DequantizeLinear (x, s, z) w = DequantizeLinear <axis: int = 0> (w8, ws, wz) "
        "b = DequantizeLinear <axis: int = 0> (b32, ws) "
        "c = Conv <kernel_shape: ints = [1, 1], group: int = 1> (r, w, b) "
        "d = Clip (c, low, high) n = BatchNormalization (d, scale, bias, mean, var) y = QuantizeLinear (n, t, u) "
        "e = Flatten (x) f = DequantizeLinear (e, s, z) g = DequantizeLinear <axis: int = 1> (g8, ws, wz) "
        "h = Gemm <alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0> (f, g, bias) "
        "k = Relu (h) m = BatchNormalization (k, scale, bias, mean, var) v = QuantizeLinear (m, t, u)",
        numbers="int8[2, 2, 1, 1] w8 = {90, -3, 4, 50}, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, "
        "int32[2] b32 = {7, -9}, float low = {-0.5}, float high = {3.0}, int8[32, 2] g8 = {"
        + ", ".join(str(i) for i in range(-32, 32))
        + "}",
    ),
    "flat": _seed(
        "(uint8[1, 1, 2, 1] x) => (uint8[1, 2] y)",
        f"d = DequantizeLinear (x, s, z) r = Flatten <axis: int = 1> (d) {_NORM} y = QuantizeLinear (n, t, u)",
    ),
    "last-axis": _seed(
        "(uint8[N, 3, 2] x) => (uint8[N, 3, 2] y)",
        "r = DequantizeLinear (x, s, z) a = Mul (r, scale) b = Add (bias, a) c = Sub (b, mean) "
        "d = Div (c, var) e = Relu (d) y = QuantizeLinear (e, t, u)",
    ),
    "last-axis-bytes": _seed(
        "(uint8[N, 3, 2] x) => (uint8[N, 3, 2] y)",
        "m = com.microsoft.QLinearMul (x, s, z, gain, t, u, t, zero) "
        "y = com.microsoft.QLinearAdd (shift, s, z, m, t, zero, t, u)",
        numbers="uint8[2] gain = {15, 5}, uint8[2] shift = {10, 5}, uint8 zero = {7}",
    ),
    "columns": _seed(
        _BYTES,
        "r = DequantizeLinear (x, s, z) a = Mul (r, gain) b = Add (a, shift) c = Sub (b, shift) d = Div (c, gain) "
        "y = QuantizeLinear (d, t, u)",
        numbers=_COLUMNS,
    ),
    "columns-between-bytes": _seed(
        _BYTES,
        "r = DequantizeLinear (x, s, z) a = Mul (r, gain) q = QuantizeLinear (a, s, z) "
        "v = DequantizeLinear (q, s, z) b = Add (v, shift) y = QuantizeLinear (b, t, u)",
        numbers=_COLUMNS,
    ),
    "norm-mul-add": _seed(
        _BYTES,
        f"r = DequantizeLinear (x, s, z) {_NORM} a = Mul (n, gain) b = Add (a, shift) "
        "y = QuantizeLinear (b, t, u)",
        numbers=_COLUMNS,
    ),
    "bytes": _seed(
        _BYTES,
        "m = com.microsoft.QLinearMul (x, s, z, gain, t, u, t, zero) "
        "y = com.microsoft.QLinearAdd (m, t, zero, shift, s, z, t, u)",
        numbers=_QCOLUMNS,
    ),
    "bytes-of-a-sum": _seed(
        "(uint8[N, 2, 4, 4] a, uint8[N, 2, 4, 4] b) => (uint8[N, 2, 4, 4] y)",
        "x = com.microsoft.QLinearAdd (a, s, z, b, t, u, s, z) "
        "m = com.microsoft.QLinearMul (x, s, z, gain, t, u, t, zero) "
        "y = com.microsoft.QLinearAdd (m, t, zero, shift, s, z, t, u)",
        numbers=_QCOLUMNS,
    ),
    "bytes-of-pieces": _seed(
        f"{_TWO} (uint8[N, 1, 2, 2] y)",
        "x = com.microsoft.QLinearConcat <axis: int = 1> (wide, middle, a, s, z, b, t, u) "
        "m = com.microsoft.QLinearMul (x, wide, middle, gain, t, u, t, zero) "
        "n = com.microsoft.QLinearAdd (m, t, zero, shift, s, z, t, u) "
        "c = QLinearConv <kernel_shape: ints = [1, 1], strides: ints = [1, 1], pads: ints = [0, 0, 0, 0], "
        "group: int = 1> (n, t, u, w, ws, wz, s, z, wb) "
        "y = com.microsoft.QLinearAveragePool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> "
        "(c, s, z, t, u)",
        numbers=f"{_QCOLUMNS}, int8[1, 2, 1, 1] w = {{90, -3}}, float ws = {{0.01}}, int8 wz = {{0}}, "
        "int32[1] wb = {7}",
    ),
    "pieces": _seed(
        f"{_TWO} (uint8[N, 1, 2, 2] y)",
        "ra = DequantizeLinear (a, s, z) rb = DequantizeLinear (b, t, u) j = Concat <axis: int = -3> (ra, rb) "
        f"q = QuantizeLinear (j, wide, middle) r = DequantizeLinear (q, wide, middle) {_NORM} "
        "p = QuantizeLinear (n, t, u) "
        "v = DequantizeLinear (p, t, u) w = DequantizeLinear (w8, t, i) "
        "c = Conv <kernel_shape: ints = [1, 1], strides: ints = [1, 1], auto_pad: string = \"VALID\"> (v, w) "
        "cq = QuantizeLinear (c, s, z) cr = DequantizeLinear (cq, s, z) "
        "o = AveragePool <kernel_shape: ints = [2, 2], strides: ints = [2, 2], ceil_mode: int = 0> (cr) "
        "y = QuantizeLinear (o, t, u)",
        numbers="int8[1, 2, 1, 1] w8 = {90, -3}",
    ),
    "pieces-in-order": _seed(
        "(uint8[N, 4, 4, 1] a, uint8[N, 4, 4, 1] b) => (uint8[N, 2, 4, 4] y)",
        "ra = DequantizeLinear (a, s, z) rb = DequantizeLinear (b, t, u) j = Concat <axis: int = 3> (ra, rb) "
        "q = QuantizeLinear (j, wide, middle) v = DequantizeLinear (q, wide, middle) "
        "o = Transpose <perm: ints = [0, 3, 1, 2]> (v) p = QuantizeLinear (o, wide, middle) "
        f"r = DequantizeLinear (p, wide, middle) {_NORM} y = QuantizeLinear (n, t, u)",
    ),
    "sum": _seed(
        "(uint8[N, 2, 4] a, uint8[N, 2, 4] b) => (uint8[N, 2, 4] y)",
        "ra = DequantizeLinear (a, s, z) rb = DequantizeLinear (b, t, u) j = Add (ra, rb) "
        f"q = QuantizeLinear (j, s, z) r = DequantizeLinear (q, s, z) {_NORM} y = QuantizeLinear (n, t, u)",
    ),
    "conv": _seed(
        "(float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)",
        "c = Conv <group: int = 1, pads: ints = [1, 1, 1, 1]> (x, w, b) k = Add (c, shift) h = Squeeze (k) "
        "r = Unsqueeze (h, axes) y = BatchNormalization (r, scale, bias, mean, var)",
        numbers="float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {1.0, 2.0}, int64[1] axes = {0}, "
        "float[2, 1, 1] shift = {1.0, 2.0}",
    ),
    "conv-moved": _seed(
        "(float[1, 2, 4, 1] x) => (float[1, 2, 4] y)",
        "c = Conv <kernel_shape: ints = [1, 1]> (x, w, b) k = Transpose <perm: ints = [0, 2, 3, 1]> (c) "
        "m = Add (k, bias) h = Squeeze (m, axes) r = Transpose <perm: ints = [0, 2, 1]> (h) "
        "y = BatchNormalization (r, scale, bias, mean, var)",
        numbers="float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] b = {1.0, 2.0}, int64[1] axes = {2}",
    ),
    "transposed-conv": _seed(
        "(float[N, 2, 4, 4] x) => (float[N, 2, 4, 4] y)",
        "r = ConvTranspose <group: int = 2> (x, w, b) y = BatchNormalization (r, scale, bias, mean, var)",
        numbers="float[2, 1, 1, 1] w = {1.0, 2.0}, float[2] b = {1.0, 2.0}",
    ),
    "gemm": _seed(
        "(float[N, 3] x) => (float[N, 2] y)",
        "r = Gemm <alpha: float = 0.5, beta: float = 2.0, transB: int = 1> (x, w, b) "
        "y = BatchNormalization (r, scale, bias, mean, var)",
        numbers="float[2, 3] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] b = {1.0, 2.0}",
    ),
    "matmul": _seed(
        "(float[N, 3] x) => (float[N, 2] y)",
        "m = MatMul (x, w) r = Add (m, b) a = Mul (r, scale) c = Add (a, bias) "
        "y = BatchNormalization (c, scale, bias, mean, var)",
        numbers="float[3, 2] w = {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}, float[2] b = {1.0, 2.0}",
    ),
    "layers-of-bytes": _seed(
        "(uint8[4, 2] x) => (uint8[4, 2] a, uint8[4, 2] b, float[4, 2] c)",
        "a = QLinearMatMul (x, s, z, w, t, i, s, z) "
        "b = com.microsoft.QGemm <transB: int = 1> (x, s, z, w, t, i, wb, s, z) "
        "r = DequantizeLinear (x, s, z) v = DequantizeLinear <axis: int = 0> (w, t, i) c = MatMul (r, v)",
        numbers="int8[2, 2] w = {100, 90, 3, 4}, int32[2] wb = {1, 2}",
    ),
    "layers": _seed(
        "(uint8[N, 2, 4, 4] x, uint8[N, 2] v) => (float[N, 2, 4, 4] a, float[N, 2, 4, 4] b, float[N, 2] c)",
        "rx = DequantizeLinear (x, s, z) rv = DequantizeLinear (v, s, z) "
        "w = DequantizeLinear <axis: int = 0> (w8, ws, wz) k = DequantizeLinear <axis: int = 0> (b32, bs) "
        "a = Conv <group: int = 1> (rx, w, k) t4 = DequantizeLinear (t8, t, i) "
        "b = ConvTranspose <group: int = 2> (rx, t4, k) g = DequantizeLinear (g8, t, i) "
        "c = Gemm <transB: int = 1, alpha: float = 1.0, beta: float = 1.0> (rv, g, k)",
        numbers="int8[2, 2, 1, 1] w8 = {90, -3, 4, 5}, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, "
        "int8[2, 1, 1, 1] t8 = {90, -3}, int8[2, 2] g8 = {90, -3, 4, 5}, int32[2] b32 = {7, 8}, "
        "float[2] bs = {0.001, 0.002}",
    ),
    "computed": _seed(
        _BYTES,
        "two = Shape (scale) ones = ConstantOfShape <value: tensor = float[1] {1.0}> (two) "
        "half, rest = Split (both, sizes) k = Slice (both, from, to, axes, steps) g = Gather (both, from) "
        "h = Concat <axis: int = 0> (g, g) w = Pad (g, pads, one) e = Expand (g, two) "
        "bq = QuantizeLinear (both, s, z) bd = DequantizeLinear (bq, s, z) l = Reshape (bd, two_two) "
        "m = ReduceMean <axes: ints = [0], keepdims: int = 0> (l) mm = Add (m, w) "
        "hh = Mul (h, e) vv = Sqrt (ones) r = DequantizeLinear (x, s, z) "
        "n = BatchNormalization (r, k, hh, mm, vv) "
        "y = QuantizeLinear (n, t, u)",
        numbers="float[4] both = {1.0, 2.0, 3.0, 4.0}, int64[2] sizes = {2, 2}, int64[1] from = {0}, "
        "int64[1] to = {2}, int64[1] axes = {0}, int64[1] steps = {1}, int64[2] pads = {0, 1}, float one = {1.0}, "
        "int64[2] two_two = {2, 2}",
    ),
    "lowered": _seed(
        _BYTES,
        "m = QLinearConv <group: int = 2, kernel_shape: ints = [1, 1]> (x, s, z, w, ws, wz, t, u, wb) "
        "y = Clip (m, low, high)",
        numbers="int8[2, 1, 1, 1] w = {90, -3}, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, "
        "int32[2] wb = {7, 8}, uint8 low = {3}, uint8 high = {200}",
    ),
    "lowered-exact": _seed(
        _BYTES,
        "m = bytenorm.QLinearBatchNormalization <epsilon: float = 0.001, channels_last: int = 0, relu: int = 1> "
        "(x, s, z, scale, bias, mean, var, t, u) y = Clip (m, , high)",
        numbers="uint8 high = {200}",
    ),
    "lowered-pieces": _seed(
        f"{_TWO} (uint8[N, 2, 4, 4] y)",
        "y = bytenorm.QLinearConcatBatchNormalization <epsilon: float = 0.001, channels_last: int = 0, "
        "relu: int = 0, pool: int = 0> (scale, bias, mean, var, t, u, ss, zz, a, b)",
        numbers="float[2] ss = {0.1, 0.2}, uint8[2] zz = {3, 128}",
    ),
    "lowered-sum": _seed(
        "(uint8[N, 2, 4] a, uint8[N, 2, 4] b) => (uint8[N, 2, 4] y, uint8[N, 2, 4] c)",
        "y, c = bytenorm.QLinearAddBatchNormalization <epsilon: float = 0.001, channels_last: int = 0, "
        "relu: int = 0, with_sum: int = 1, exact_sum: int = 0> "
        "(a, s, z, b, t, u, scale, bias, mean, var, s, z, t, u)",
    ),
    "lowered-sums": _seed(
        "(uint8[N, 2, 4] a, uint8[N, 2, 4] b) => (uint8[N, 2, 4] y)",
        "y = bytenorm.QLinearSumBatchNormalization <epsilon: float = 0.001, channels_last: int = 0, "
        "relu: int = 0, floor: float = 0.0, ceiling: float = 6.0> (scale, bias, mean, var, t, u, ss, zz, a, b, a)",
        numbers="float[3] ss = {0.1, 0.2, 0.1}, uint8[3] zz = {3, 128, 3}",
    ),
}  # fmt: skip
