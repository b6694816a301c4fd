"""The digits network through PyTorch's export flow: all its norms in 8 bits, in torch and in ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch
from exact_sums import exact_session

from bytenorm import onnx as bno
from bytenorm.torch.pt2e.lower import lower_with_report
from bytenorm.torch.pt2e.to_onnx import to_onnx

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
FLOAT_ERRORS = 13  # of the 1,000 held-out images
LONE_NORMS = [
    "input/norm", "residual1/norm1", "residual2/norm1", "dense1/norm1", "dense1/norm2", "transition/norm",
    "dense2/norm1", "dense2/norm2", "head/norm",
]  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),  # torch, of its own trees
    pytest.mark.filterwarnings("ignore:.*reduce_range will be deprecated:UserWarning"),  # torchao, of its own code
    pytest.mark.filterwarnings("ignore:.*maxpool2d is not quantized:UserWarning"),
]


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        from torchao.quantization.pt2e import quantize_pt2e

        import quantize_digits_torch

        # It takes half a minute wherever a norm is left, and finds only what was prepared for training.
        patch.setattr(quantize_pt2e, "_fold_conv_bn_qat", lambda model: model)
        yield quantize_digits_torch


@pytest.fixture(scope="module")
def images(example):
    train_images, _, test_images, labels = example.load_digits()
    return torch.from_numpy(train_images[: example.CALIBRATION_IMAGES]), test_images, labels


@pytest.fixture(scope="module")
def network(example):
    return example.digits_network()


@pytest.fixture(scope="module")
def lowered(example, network, images):
    with torch.random.fork_rng():
        return lower_with_report(example.quantize(network, images[0], norms=True))


@pytest.mark.thorough
def test_the_network_is_the_shipped_one(example, network, images):
    _, test_images, labels = images
    logits = bno.session(bno.digits_model()).run(None, {"image": test_images[:100]})[0]
    with torch.no_grad():
        np.testing.assert_allclose(
            network(torch.from_numpy(test_images[:100])).numpy(), logits, rtol=1e-3, atol=1e-3
        )
    assert np.count_nonzero(example.classes(network, test_images) != labels) == FLOAT_ERRORS


@pytest.mark.thorough
def test_no_norm_stays_in_float(example, lowered, images):
    module, outcomes = lowered
    assert [(o.name, o.problem) for o in outcomes] == [(f"layers.{name}", "") for name in LONE_NORMS]
    assert example.norms_in_float(module) == 0
    assert example.norms_in_8_bits(module) == len(LONE_NORMS)
    _, test_images, labels = images
    assert np.count_nonzero(example.classes(module, test_images) != labels) <= FLOAT_ERRORS + 5


def test_without_the_quantizer_they_stay_in_float(example, network, images):
    module = example.quantize(network, images[0][:8], norms=False)
    assert example.norms_in_float(module) == len(LONE_NORMS)
    assert example.norms_in_8_bits(module) == 0


@pytest.mark.thorough
def test_same_classes_in_onnx_runtime(example, lowered, images):
    calibration, test_images, _ = images
    exported = torch.export.export(lowered[0], (calibration[:2],), dynamic_shapes=example.BATCH_IS_FREE)
    model = to_onnx(exported, input_names=["image"], output_names=["logits"])
    assert sum(node.domain == "bytenorm" for node in model.graph.node) == len(LONE_NORMS)
    assert model.ir_version == 9
    assert bno.inspect(model).summary() == "9 batch norms: 0 in float, 9 in 8 bits; 0 can be folded"
    feeds = {"image": test_images}
    logits = bno.session(model).run(None, feeds)[0]
    np.testing.assert_array_equal(logits.argmax(1), example.classes(lowered[0], test_images))
    np.testing.assert_array_equal(exact_session(model).run(None, feeds)[0].argmax(1), logits.argmax(1))


def test_wrong_arguments_of_the_example(example, capsys, tmp_path):
    for option in ("--output", "--json"):
        assert example.main([option, str(tmp_path)]) == 2
        assert capsys.readouterr().err == f"quantize_digits_torch: {option}: {tmp_path} is no place for a file\n"
