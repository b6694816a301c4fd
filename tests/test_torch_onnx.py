"""Programs with the operator as ONNX models: one node a norm, with its function, the same codes."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn
from torch.ao.quantization.fx import _decomposed  # noqa: F401 - registers what torchao writes
from torch.export import Dim, export

from bytenorm import onnx as bno
from bytenorm.torch import BNReLU2d, batch_norm
from bytenorm.torch.pt2e.lower import lower
from bytenorm.torch.pt2e.to_onnx import to_onnx

# torch warns of its own trees when it copies them.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")

q8 = torch.ops.quantized_decomposed
NORM = "QLinearBatchNormalization"


def learned(norm):
    """Return a norm as if it had been trained."""
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.2, 2)
    return norm.eval()


class Norms(nn.Module):
    """Norms of every rank, type and kind, between quantized tensors."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.vectors = learned(nn.BatchNorm1d(4))
        self.lines = learned(nn.BatchNorm1d(4, eps=1e-3))
        self.images = learned(nn.BatchNorm2d(4, affine=False))
        self.volumes = learned(nn.BatchNorm3d(4))
        self.channels = learned(nn.BatchNorm2d(4))
        self.register_buffer("scale", torch.tensor([0.02, 0.03, 0.04, 0.05]))
        self.register_buffer("zero_point", torch.tensor([100, 110, 120, 130]))

    def forward(self, vectors, lines, images, volumes):
        u8, s8 = (0, 255, torch.uint8), (-128, 127, torch.int8)
        a = self.vectors(q8.dequantize_per_tensor(vectors, 0.03125, 120, *u8))
        b = self.lines(q8.dequantize_per_tensor(lines, 0.03125, -3, *s8)).relu()
        c = self.images(q8.dequantize_per_tensor(images, 0.03125, 120, *u8)).clamp(-1, 2)
        d = self.volumes(q8.dequantize_per_tensor(volumes, 0.03125, 4, *s8))
        e = self.channels(q8.dequantize_per_channel(images, self.scale, self.zero_point, 1, *u8)).relu()
        return (
            q8.quantize_per_tensor(a, 0.015625, 128, *u8),
            q8.quantize_per_tensor(b, 0.015625, 30, *u8),
            q8.quantize_per_tensor(c, 0.015625, -30, *s8),
            q8.quantize_per_tensor(d, 0.015625, 0, *s8),
            q8.quantize_per_tensor(e, 0.015625, 5, *u8),
        )


def inputs(batch):
    generator = torch.Generator().manual_seed(batch)
    u8 = {"low": 0, "high": 256, "dtype": torch.uint8, "generator": generator}
    s8 = {"low": -128, "high": 128, "dtype": torch.int8, "generator": generator}
    return (
        torch.randint(size=(batch, 4), **u8),
        torch.randint(size=(batch, 4, 7), **s8),
        torch.randint(size=(batch, 4, 6, 5), **u8),
        torch.randint(size=(batch, 4, 3, 4, 5), **s8),
    )


@pytest.fixture(scope="module")
def program():
    batch = {0: Dim("batch", min=2)}
    return lower(export(Norms().eval(), inputs(3), dynamic_shapes=(batch,) * 4))


@pytest.fixture(scope="module")
def model(program):
    return to_onnx(program)


def feeds(batch):
    names = ("vectors", "lines", "images", "volumes")
    return {name: codes.numpy() for name, codes in zip(names, inputs(batch), strict=True)}


def nodes(model, *ops):
    return [node for node in model.graph.node if node.op_type in ops]


def test_each_norm_is_one_node_with_its_function(model):
    norms = nodes(model, NORM)
    assert {node.domain for node in norms} == {"bytenorm"}
    assert [node.name for node in norms] == [
        f"{name}/{NORM}" for name in ("vectors", "lines", "images", "volumes", "channels")
    ]
    assert [(f.domain, f.name) for f in model.functions] == [("bytenorm", NORM)]
    assert not nodes(model, "BatchNormalization", "QuantizeLinear", "DequantizeLinear")
    attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in norms]
    assert [a["relu"] for a in attributes] == [0, 1, 0, 0, 1]
    assert [a["channels_last"] for a in attributes] == [0, 1, 1, 1, 1]
    assert [np.float32(a["epsilon"]) for a in attributes] == [
        np.float32(1e-3 if i == 1 else 1e-5) for i in range(5)
    ]


def test_old_runtimes_can_read_it(model):
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version == 9
    assert {opset.domain: opset.version for opset in model.opset_import} == {"": 18, "bytenorm": 1}
    assert not any(n.metadata_props for n in model.graph.node)
    assert b"/" + __file__.encode().rpartition(b"/")[2] not in model.SerializeToString()


@pytest.mark.parametrize("batch", [3, 8])
def test_same_codes_everywhere(program, model, batch):
    want = [codes.numpy() for codes in program.module()(*inputs(batch))]
    assert all(len(np.unique(codes)) > 5 for codes in want)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    stock = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for made in (
        bno.session(model).run(None, feeds(batch)),
        stock.run(None, feeds(batch)),
        ReferenceEvaluator(model).run(None, feeds(batch)),
    ):
        for wanted, found in zip(want, made, strict=True):
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.thorough
def test_a_network_keeps_its_names_and_newer_opsets_their_version(tmp_path):
    """Convolutions, pools and norms: no transpose is left between them and the rest stays as torch writes it."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = learned(nn.BatchNorm2d(4))
            self.conv = nn.Conv2d(4, 8, 3)

        def forward(self, x):
            u8 = (0, 255, torch.uint8)
            x = q8.dequantize_per_tensor(q8.quantize_per_tensor(x, 0.03125, 128, *u8), 0.03125, 128, *u8)
            x = q8.quantize_per_tensor(self.norm(x).relu(), 0.015625, 0, *u8)
            x = self.conv(q8.dequantize_per_tensor(x, 0.015625, 0, *u8))
            return nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)

    x = torch.randn(2, 4, 9, 9)
    made = lower(export(Network().eval(), (x,)))
    path = tmp_path / "network.onnx"
    model = to_onnx(made, path, input_names=["image"], output_names=["logits"], opset=21)
    assert onnx.load(path) == model
    assert list(tmp_path.iterdir()) == [path]
    assert model.ir_version == 10
    assert [opset.version for opset in model.opset_import if not opset.domain] == [21]
    assert [v.name for v in (*model.graph.input, *model.graph.output)] == ["image", "logits"]
    ops = ["QuantizeLinear", "Transpose", NORM, "Transpose", "DequantizeLinear", "Conv", "ReduceMean", "Reshape"]
    assert [node.op_type for node in model.graph.node] == ops
    logits = bno.session(path).run(None, {"image": x.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(logits, made.module()(x).numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(FileExistsError, match=r"network\.onnx"):
        to_onnx(made, path)


class InBranch(nn.Module):
    """Norms where a model looks for them last: in a branch."""

    def __init__(self):
        super().__init__()
        self.norm = BNReLU2d.from_float(
            learned(nn.BatchNorm2d(4)), 0.05, 100, input_scale=0.03, input_zero_point=128
        )

    def forward(self, codes):
        return torch.cond(codes.float().sum() > 0, self.norm, torch.clone, (codes,))


class OtherPrecisions(nn.Module):
    """Parameters that the operator rounds to float32."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))
        self.register_buffer("weight", torch.tensor([0.5, 1, 2, 3], dtype=torch.float16))

    def forward(self, codes):
        return batch_norm(codes, 0.03, 128, self.weight, None, self.mean, self.mean, 1e-5, 0.25, 100)


@pytest.mark.thorough
@pytest.mark.parametrize("made", [InBranch, OtherPrecisions])
def test_norms_that_were_not_lowered(made):
    codes = inputs(2)[2]
    program = export(made(), (codes,))
    model = to_onnx(program)
    assert [f.name for f in model.functions] == [NORM]
    assert model.ir_version == 9
    want = program.module()(codes).numpy()
    assert len(np.unique(want)) > 5
    stock = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for session in (bno.session(model), stock):
        np.testing.assert_array_equal(session.run(None, {"codes": codes.numpy()})[0], want)


def test_programs_without_norms_need_no_function():
    model = to_onnx(export(nn.ReLU(), (torch.zeros(3),)))
    assert not model.functions
    assert [opset.domain for opset in model.opset_import] == [""]


@pytest.mark.parametrize(
    ("program", "options", "error", "says"),
    [
        (
            nn.ReLU(),
            {},
            TypeError,
            r"program must be a torch.export.ExportedProgram \(torch.export.export makes one",
        ),
        (None, {}, TypeError, r"program must be a torch.export.ExportedProgram, got NoneType"),
        (..., {"opset": 17}, ValueError, r"opset must be 18 or newer, got 17"),
        (..., {"path": "nowhere/model.onnx"}, ValueError, r"path 'nowhere/model.onnx'"),
        (..., {"opset": 18.0}, TypeError, r"opset must be an int, got float"),
    ],
)
def test_bad_input(program, options, error, says):
    given = export(nn.ReLU(), (torch.zeros(3),)) if program is ... else program
    with pytest.raises(error, match=f"^{says}"):
        to_onnx(given, **options)


@pytest.mark.thorough
def test_without_onnxscript_it_says_what_to_install(run_python):
    done = run_python("import sys; sys.modules['onnxscript'] = None\nimport bytenorm.torch.pt2e.to_onnx")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        'ImportError: bytenorm.torch.to_onnx needs onnxscript: pip install "bytenorm[torch]"'
    )


class Fed(nn.Module):
    """Norms of concatenations of two kinds and of sums, one of which is read twice."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.two, self.three = learned(nn.BatchNorm2d(8)), learned(nn.BatchNorm2d(12))
        self.alone, self.shared = learned(nn.BatchNorm1d(4)), learned(nn.BatchNorm2d(4))

    def forward(self, lines, images):
        u8, s8 = (0, 255, torch.uint8), (-128, 127, torch.int8)
        a = q8.dequantize_per_tensor(images, 0.03125, 120, *u8)
        b = q8.dequantize_per_tensor(images.flip(3), 0.0625, 100, *u8)
        x = q8.dequantize_per_tensor(lines, 0.03125, -3, *s8)
        y = q8.dequantize_per_tensor(lines.flip(2), 0.05, 7, *s8)

        def through(real, kind):
            return q8.dequantize_per_tensor(q8.quantize_per_tensor(real, 0.0625, 20, *kind), 0.0625, 20, *kind)

        total = q8.quantize_per_tensor(a + b, 0.125, 130, *u8)
        return (
            q8.quantize_per_tensor(self.two(through(torch.cat([a, b], 1), u8)), 0.03, 128, *u8),
            q8.quantize_per_tensor(self.three(through(torch.cat([a, b, a], 1), u8)).relu(), 0.03, 5, *u8),
            q8.quantize_per_tensor(self.alone(through(x + y, s8)), 0.04, 3, *s8),
            q8.quantize_per_tensor(self.shared(q8.dequantize_per_tensor(total, 0.125, 130, *u8)), 0.04, 9, *u8),
            total,
        )


@pytest.mark.thorough
def test_norms_of_concatenations_and_sums():
    batch = {0: Dim("batch", min=2)}
    given = inputs(3)[1:3]
    program = lower(export(Fed().eval(), given, dynamic_shapes=(batch,) * 2))
    targets = [str(node.target) for node in program.graph.nodes if "bytenorm" in str(node.target)]
    assert sorted(targets) == ["bytenorm.add_batch_norm.default"] * 2 + ["bytenorm.concat_batch_norm.default"] * 2
    model = to_onnx(program)
    made = nodes(model, "QLinearConcatBatchNormalization", "QLinearAddBatchNormalization")
    assert {node.name.partition("/")[0] for node in made} == {"two", "three", "alone", "shared"}
    assert model.ir_version == 10  # of several kinds
    for size in (3, 5):
        lines, images = inputs(size)[1:3]
        named = {"lines": lines.numpy(), "images": images.numpy()}
        want = [y.numpy() for y in program.module()(lines, images)]
        stock = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for session in (bno.session(model), stock):
            for got, expected in zip(session.run(None, named), want, strict=True):
                np.testing.assert_array_equal(got, expected)
