"""Data for calibration that is gone through again, comes once, or is read in part."""

import numpy as np
import pytest
from fed_models import FIXED, INT64, OPEN, Again, items, joined, message_of, model, rows, sizes
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader

from bytenorm.onnx.data.dataset import open_data


@pytest.mark.parametrize(
    "kind", [list, tuple, iter, Again, lambda x: (i for i in x), lambda x: dict(enumerate(x)).values()]
)
def test_several_passes(kind):
    data = open_data(kind(items()), OPEN)
    for _ in range(3):
        assert sizes(data) == [4] * 5
        np.testing.assert_array_equal(joined(data), rows(20))
    one, two = iter(data), iter(data)
    for first, second in zip(one, two, strict=True):
        np.testing.assert_array_equal(first["x"], second["x"])


class Reader(CalibrationDataReader):
    """As ONNX Runtime's documentation writes one: it fills one array again and again, and ends with None."""

    def __init__(self, batches):
        self.batches, self.left, self.taken = batches, iter(batches), 0
        self.array = np.empty_like(batches[0]["x"])

    def get_next(self):
        batch = next(self.left, None)
        if batch is None:
            return None
        self.taken += 1
        self.array[...] = batch["x"]
        return {"x": self.array}


class Rewinding(Reader):
    def rewind(self):
        self.left = iter(self.batches)


class Plain:
    """Not derived of anything."""

    def __init__(self, batches):
        self.left = iter(batches)

    def get_next(self):
        return next(self.left, {})


@pytest.mark.parametrize("room", [0, 100, 1 << 20])
@pytest.mark.parametrize("kind", [Reader, Rewinding, Plain, iter])
def test_readers_of_the_quantizer(kind, room, monkeypatch, tmp_path):
    monkeypatch.setattr("bytenorm.onnx.data.passes.IN_MEMORY", room)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    source = kind(items())
    data = open_data(source, OPEN)
    assert not list(tmp_path.iterdir())  # a file without a name
    for _ in range(3):
        assert sizes(data) == [4] * 5
        np.testing.assert_array_equal(joined(data), rows(20))
    if kind is Reader:
        assert source.taken == 5
    if kind is Rewinding:
        assert source.taken == 35
        assert data.first(6).samples == 6
        first = iter(data)
        next(first)
        assert sizes(data) == [4] * 5
        text = message_of(lambda: list(first))
        assert text == "calibration_data: the reader was rewound in the middle of a pass"
    limited = open_data(kind(items()), OPEN, limit=7)
    assert sizes(limited) == sizes(limited) == [4, 3]


def test_readers_with_nothing_or_too_little():
    with pytest.raises(ValueError, match=r"^calibration_data holds no samples$"):
        open_data(Plain([]), OPEN)
    source = Rewinding(items())
    data = open_data(source, OPEN)
    source.batches = items(3)
    assert message_of(lambda: list(data)).startswith("calibration_data has fewer samples in a later pass")
    source.batches = [{"x": rows(4)}, {"x": np.full((4, 3), np.nan, np.float32)}]
    assert message_of(lambda: list(data)) == "calibration_data[1]: input 'x' holds nan at [0, 0]"


def test_no_room_for_what_comes_once(monkeypatch, tmp_path):
    monkeypatch.setattr("bytenorm.onnx.data.passes.IN_MEMORY", 0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    text = message_of(lambda: open_data(iter(items()), OPEN))
    assert text.startswith("calibration_data comes once: what is more than the 0 MiB that are kept")


def test_inputs_of_several_types_in_a_file(monkeypatch):
    monkeypatch.setattr("bytenorm.onnx.data.passes.IN_MEMORY", 0)
    rng = np.random.default_rng(4)
    wants = model(x=("n", 2), b=[INT64, ["n"]], c=[TensorProto.FLOAT16, []])
    batch = {"x": rng.normal(size=(3, 2)).astype(np.float32), "b": np.arange(3), "c": np.float16(2.5)}
    for _ in range(2):
        (got,) = open_data(iter([batch]), wants)
        for name, array in got.items():
            np.testing.assert_array_equal(array, batch[name])
            assert array.dtype == np.asarray(batch[name]).dtype


def test_what_can_be_gone_through_again_is_not_kept():
    source = Again(items())
    data = open_data(source, OPEN)
    assert source.taken == 5
    list(data)
    assert source.taken == 10


@pytest.mark.parametrize(
    ("later", "shown"),
    [
        (items(4), "calibration_data has fewer samples in a later pass than in the first"),
        (
            [{"x": rows(4)}, {"x": rows(5)}, *items(3)],
            "calibration_data[1] has 5 rows in a later pass, 4 in the first",
        ),
        ([{"x": rows(4)}, {"z": rows(4)}, *items(3)], "calibration_data[1]: 'x' is missing"),
        (
            [{"x": rows(4)}, {"x": np.full((4, 3), np.nan, np.float32)}, *items(3)],
            "calibration_data[1]: input 'x' holds nan at [0, 0]",
        ),
    ],
)
def test_passes_that_differ(later, shown):
    data = open_data(Again(items(), later), OPEN)
    assert message_of(lambda: list(data)).startswith(shown)


@pytest.mark.parametrize("kind", [list, iter, Again])
@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (1, [1]),
        (3, [3]),
        (4, [4]),
        (5, [4, 1]),
        (19, [4, 4, 4, 4, 3]),
        (20, [4] * 5),
        (21, [4] * 5),
        (10**30, [4] * 5),
    ],
)
def test_limit(kind, limit, wanted):
    data = open_data(kind(items()), OPEN, limit=limit)
    assert (data.samples, len(data)) == (sum(wanted), len(wanted))
    assert sizes(data) == sizes(data) == wanted
    np.testing.assert_array_equal(joined(data), rows(sum(wanted)))


@pytest.mark.parametrize(("limit", "wanted"), [(4, [4]), (7, [4]), (8, [4, 4]), (100, [4] * 10)])
def test_limit_with_a_fixed_batch(limit, wanted):
    data = open_data([{"x": rows(8, 8 * i)} for i in range(5)], FIXED, limit=limit)
    assert (data.samples, len(data)) == (sum(wanted), len(wanted))
    np.testing.assert_array_equal(joined(data), rows(sum(wanted)))


def test_limit_below_a_fixed_batch():
    text = message_of(lambda: open_data(items(), FIXED, limit=3))
    assert text == "limit must be at least 4, which the model takes at a time, got 3"


def test_limit_takes_no_more_than_it_needs():
    taken = []

    def endless():
        for i in range(1000):  # as good as endless, but for a test that fails
            taken.append(i)
            yield {"x": rows(4, 4 * i)}

    data = open_data(endless(), OPEN, limit=8)
    assert taken == [0, 1]
    assert sizes(data) == [4, 4]
    source = Again(items())
    list(open_data(source, OPEN, limit=8))
    assert source.taken == 4


def test_errors_of_the_source_are_its_own():
    def broken():
        yield {"x": rows(4)}
        raise ZeroDivisionError("theirs")

    assert message_of(lambda: open_data(broken(), OPEN), ZeroDivisionError) == "theirs"


@pytest.mark.parametrize("limit", [0, -1])
def test_limits_that_are_none(limit):
    assert message_of(lambda: open_data(items(), OPEN, limit=limit)) == f"limit must be at least 1, got {limit}"


@pytest.mark.parametrize("limit", [1.0, "1", True, [1]])
def test_limits_of_another_type(limit):
    assert message_of(lambda: open_data(items(), OPEN, limit=limit), TypeError).startswith(
        "limit must be an integer"
    )


def test_a_dataset_is_data():
    data = open_data(items(), OPEN, limit=18)
    again = open_data(data, OPEN)
    assert again.samples == 18
    np.testing.assert_array_equal(joined(again), rows(18))
    less = open_data(data, OPEN, limit=9)
    assert (less.samples, sizes(less), sizes(less)) == (9, [4, 4, 1], [4, 4, 1])
    assert open_data(data, OPEN, limit=19).samples == 18
    other = open_data(data, model(x=(2, 3)))
    assert sizes(other) == [2] * 9
    assert "has shape" not in message_of(lambda: open_data(data, model(x=(None, 4))))
    fixed = open_data(items(), FIXED)
    assert open_data(fixed, FIXED, limit=6).samples == 4
    assert "at least 4" in message_of(lambda: open_data(fixed, FIXED, limit=3))
