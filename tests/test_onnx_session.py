"""Sessions that know the operator: options of every kind, models of every kind, and what is neither."""

import gc
import itertools
import threading

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper, parser

from bytenorm import _core
from bytenorm import onnx as bno
from bytenorm.onnx.operators.batch_norm import add_function

TEXT = """<ir_version: 8, opset_import: ["" : 17, "bytenorm" : 1]>
    g (uint8[N, 2, M] x) => (uint8[N, 2, M] y) {
        y = bytenorm.QLinearBatchNormalization <epsilon = 0.0, channels_last = 0, relu = 0>
            (x, s, z, w, b, m, v, s, z)
    }"""
X = np.arange(256, dtype=np.uint8).reshape(1, 2, 128)
Y = np.concatenate([X[:, :1], np.clip(2 * X[:, 1:].astype(int) - 97, 0, 255).astype(np.uint8)], axis=1)


def model(*, function=False):
    """Return 1 * x in the first channel and 2 * x + 3 in the second; zero points of 100."""
    made = parser.parse_model(TEXT)
    values = {"s": np.float32(1), "z": np.uint8(100), "w": [1, 2], "b": [0, 3], "m": [0, 0], "v": [1, 1]}
    for name, value in values.items():
        array = np.asarray(value, np.float32 if isinstance(value, list) else None)
        made.graph.initializer.append(numpy_helper.from_array(array, name))
    if function:
        add_function(made)
    return made


def check(session):
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], Y)


def quiet():
    """Return options of a session that may fail without a word on standard error."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


# --- options --------------------------------------------------------------------------------------------------


def test_the_library_is_the_extension_itself():
    assert bno.custom_op_library() == _core.__file__
    options = quiet()
    options.register_custom_ops_library(bno.custom_op_library())
    check(ort.InferenceSession(model().SerializeToString(), options))


def test_the_operator_is_needed():
    with pytest.raises(Exception, match="bytenorm"):
        ort.InferenceSession(model().SerializeToString(), quiet())
    check(ort.InferenceSession(model(function=True).SerializeToString(), quiet()))


def test_registered_twice():
    options = quiet()
    assert bno.register(options) is None
    bno.register(options)
    check(ort.InferenceSession(model().SerializeToString(), options))


def test_what_is_registered_is_left_alone():
    class Options(ort.SessionOptions):
        calls = 0

        def register_custom_ops_library(self, path):
            self.calls += 1
            super().register_custom_ops_library(path)

    options = Options()
    for _ in range(3):
        bno.register(options)
    assert options.calls == 1


def test_registered_by_hand_before():
    options = quiet()
    options.register_custom_ops_library(bno.custom_op_library())
    bno.register(options)
    bno.register(options)
    check(ort.InferenceSession(model().SerializeToString(), options))
    check(bno.session(model(), options))


def test_options_of_many_sessions():
    options = quiet()
    options.intra_op_num_threads = 1
    sessions = [bno.session(model(function=i % 2 == 0), options) for i in range(20)]
    for session in sessions:
        check(session)
    assert all(s.get_session_options() is not None for s in sessions)


def test_many_options():
    """Options that are gone leave no trace, even where new ones take their place in memory."""
    for _ in range(50):
        options = quiet()
        bno.register(options)
        check(ort.InferenceSession(model().SerializeToString(), options))
        del options
        gc.collect()


def test_sessions_outlive_their_options():
    options = quiet()
    session = bno.session(model(), options)
    del options
    gc.collect()
    check(session)


def test_options_are_used():
    options = quiet()
    options.add_session_config_entry("session.load_model_format", "ORT")
    with pytest.raises(ValueError, match=r"^model_or_path: ONNX Runtime cannot load it: "):
        bno.session(model(), options)


def test_registered_from_many_threads():
    options = [quiet() for _ in range(8)]
    barrier, errors = threading.Barrier(8), []

    def work(own):
        try:
            barrier.wait()
            for each in (*options, own):
                bno.register(each)
            check(bno.session(model(), own))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(own,)) for own in options]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


@pytest.mark.parametrize("value", [None, "options", ort.RunOptions(), ort.SessionOptions])
def test_what_are_no_options(value):
    came = type(value).__name__
    wanted = f"must be onnxruntime.SessionOptions, got {came}"
    with pytest.raises(TypeError, match=f"^session_options {wanted}$"):
        bno.register(value)
    if value is not None:
        with pytest.raises(TypeError, match=f"^sess_options {wanted}$"):
            bno.session(model(), value)


def test_a_runtime_that_refuses_the_operator(monkeypatch):
    monkeypatch.setattr("bytenorm.onnx.run.session.custom_op_library", lambda: "/nowhere/library.so")
    with pytest.raises(RuntimeError, match=rf"^ONNX Runtime {ort.__version__} refused the operator: ") as caught:
        bno.register(options := quiet())
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    bno.register(options)
    check(ort.InferenceSession(model().SerializeToString(), options))


# --- models ---------------------------------------------------------------------------------------------------


def test_models_and_paths(tmp_path):
    path = tmp_path / "model.onnx"
    for function in (False, True):
        onnx.save(model(function=function), path)
        for source in (path, str(path), model(function=function)):
            check(bno.session(source))


def test_a_model_with_its_weights_beside_it(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(model(), path, save_as_external_data=True, location="weights", size_threshold=0)
    assert (tmp_path / "weights").exists()
    check(bno.session(path))


def test_a_model_without_the_operator():
    session = bno.session(bno.digits_model())
    assert session.run(None, {"image": np.zeros((3, 1, 28, 28), np.float32)})[0].shape == (3, 10)


def test_providers():
    assert bno.session(model()).get_providers() == ["CPUExecutionProvider"]
    assert bno.session(model(), None, ("CPUExecutionProvider",)).get_providers() == ["CPUExecutionProvider"]
    with pytest.raises(TypeError, match=r"^providers must be a sequence of names, got str$"):
        bno.session(model(), providers="CPUExecutionProvider")
    with pytest.raises(ValueError, match=r"^model_or_path: ONNX Runtime cannot load it: .*Nonsense"):
        bno.session(model(), providers=["Nonsense"])


@pytest.mark.parametrize("value", [None, 3, model().SerializeToString(), model().graph])
def test_what_is_no_model(value):
    with pytest.raises(
        TypeError, match=rf"^model_or_path must be a ModelProto or a path, got {type(value).__name__}$"
    ):
        bno.session(value)


def broken():
    """Return models that ONNX Runtime refuses, each with a word of why."""
    unknown = model()
    unknown.graph.node[0].op_type = "Nonsense"
    lengths = model()
    lengths.graph.initializer[3].CopyFrom(numpy_helper.from_array(np.zeros(5, np.float32), "b"))
    newer = model()
    newer.opset_import[0].version = 99
    return {"unknown": (unknown, "Nonsense"), "lengths": (lengths, "B has 5 values"), "newer": (newer, "99")}


@pytest.mark.parametrize(("name", "as_file"), list(itertools.product(broken(), (False, True))))
def test_a_model_that_cannot_be_loaded_is_one_line(tmp_path, name, as_file):
    made, word = broken()[name]
    path = tmp_path / "model.onnx"
    onnx.save(made, path)
    with pytest.raises(ValueError, match=word) as caught:
        bno.session(path if as_file else made, quiet())
    told = str(caught.value)
    assert told.startswith(
        f"{f'model_or_path {str(path)!r}' if as_file else 'model_or_path'}: ONNX Runtime cannot load it: "
    )
    assert "\n" not in told
    assert "  " not in told
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("content", [None, b"", b"nothing that is a model"])
def test_files_that_are_no_models(tmp_path, content):
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match="ONNX Runtime cannot load it: ") as caught:
        bno.session(path, quiet())
    assert str(caught.value).startswith(f"model_or_path {str(path)!r}: ")
    assert "\n" not in str(caught.value)
