"""Data for calibration from files of images."""

import io
import math
import sys

import numpy as np
import pytest
import torch
from fed_models import DOUBLE, OPEN, UINT8, first_pass, items, message_of, model, rows, sizes
from onnx import TensorProto
from PIL import Image

from bytenorm.onnx.data.dataset import Dataset, open_data
from bytenorm.onnx.data.images import ImageInput

NCHW, NHWC = model(x=("N", 3, 4, 6)), model(x=("N", 4, 6, 3))
ANY_SIZE = model(x=("N", 3, "H", "W"))
GREY = model(x=("N", 1, 4, 6))
PIXELS = [[[(40 * i + 7 * j + 90 * c) % 256 for c in range(3)] for j in range(6)] for i in range(4)]
RGB = np.array(PIXELS, np.uint8)


def save(path, pixels=RGB, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def as_input(pixels, images=None):
    """Return what a model gets, in rational terms: float64 from Python's numbers."""
    images = images or ImageInput()
    mean, std = np.array(images.mean), np.array(images.std)
    return (np.asarray(pixels, np.float64) * images.rescale - mean) / std


@pytest.mark.parametrize("kind", ["png", "bmp", "tif", "tiff", "webp", "PNG"])
def test_images(tmp_path, kind):
    path = save(tmp_path / f"a.{kind}", **({"lossless": True, "exact": True} if kind == "webp" else {}))
    (batch,) = first_pass(path, NCHW)
    assert batch["x"].dtype == np.float32
    assert batch["x"].shape == (1, 3, 4, 6)
    np.testing.assert_allclose(batch["x"][0].transpose(1, 2, 0), as_input(RGB), rtol=1e-6)
    (batch,) = first_pass(path, NHWC)
    np.testing.assert_allclose(batch["x"][0], as_input(RGB), rtol=1e-6)
    assert batch["x"].flags.c_contiguous


@pytest.mark.parametrize("kind", ["jpg", "jpeg"])
def test_jpeg(tmp_path, kind):
    path = save(tmp_path / f"a.{kind}", np.full((4, 6, 3), 100, np.uint8), quality=100)
    (batch,) = first_pass(path, NCHW)
    np.testing.assert_allclose(batch["x"], 100 / 255, atol=1.01 / 255)


@pytest.mark.parametrize(
    "images",
    [
        ImageInput((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ImageInput([0.5], [0.25]),
        ImageInput(mean=(127.5,), std=(127.5,), rescale=1),
        ImageInput(rescale=2),
    ],
)
def test_pixels_become_numbers(tmp_path, images):
    (batch,) = first_pass(save(tmp_path / "a.png"), NHWC, images=images)
    np.testing.assert_allclose(batch["x"][0], as_input(RGB, images), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [("N", 3, 4, 6), (1, 3, "H", "W")])
def test_pixels_themselves(tmp_path, shape):
    (batch,) = first_pass(save(tmp_path / "a.png"), model(x=[UINT8, shape]))
    assert batch["x"].dtype == np.uint8
    np.testing.assert_array_equal(batch["x"][0].transpose(1, 2, 0), RGB)
    options = {"images": ImageInput()}
    assert len(first_pass(tmp_path / "a.png", model(x=[UINT8, shape]), **options)) == 1
    text = message_of(
        lambda: open_data(tmp_path / "a.png", model(x=[UINT8, shape]), images=ImageInput(rescale=1.0))
    )
    assert text.startswith("images must be ImageInput() for 'x' (uint8")


def test_grey(tmp_path):
    (batch,) = first_pass(save(tmp_path / "a.png"), GREY)
    luma = RGB @ np.array([0.299, 0.587, 0.114])  # ITU-R 601
    assert batch["x"].shape == (1, 1, 4, 6)
    np.testing.assert_allclose(batch["x"][0, 0] * 255, luma, atol=1)
    (batch,) = first_pass(save(tmp_path / "a.png", RGB[:, :, 0]), GREY)
    np.testing.assert_allclose(batch["x"][0, 0], RGB[:, :, 0] / 255, rtol=1e-6)
    (batch,) = first_pass(tmp_path / "a.png", model(x=("N", 4, 6, 1)))
    np.testing.assert_allclose(batch["x"][0, :, :, 0], RGB[:, :, 0] / 255, rtol=1e-6)
    (batch,) = first_pass(tmp_path / "a.png", NHWC)
    np.testing.assert_allclose(batch["x"][0], np.repeat(RGB[:, :, :1], 3, 2) / 255, rtol=1e-6)


def test_modes_of_images(tmp_path):
    wanted = as_input(RGB)
    opaque = np.dstack([RGB, np.full((4, 6), 255, np.uint8)])
    for name, image in {
        "rgba": Image.fromarray(opaque),
        "palette": Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE),
    }.items():
        image.save(tmp_path / f"{name}.png")
        (batch,) = first_pass(tmp_path / f"{name}.png", NHWC)
        np.testing.assert_allclose(batch["x"][0], wanted, rtol=1e-6)
    clear = Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE)
    clear.save(tmp_path / "clear.png", transparency=bytes(range(24)))
    (batch,) = first_pass(tmp_path / "clear.png", NHWC)
    np.testing.assert_allclose(batch["x"][0], wanted, rtol=1e-6)
    black = np.array([[False, True, True, False, True, False]] * 4)
    save(tmp_path / "bits.png", black)
    (batch,) = first_pass(tmp_path / "bits.png", GREY)
    np.testing.assert_array_equal(batch["x"][0, 0], black)


@pytest.mark.parametrize(
    ("name", "pixels"),
    [
        ("a.png", np.full((4, 6), 1000, np.uint16)),
        ("a.tif", np.full((4, 6), 1000, np.uint16)),
        ("a.tif", np.full((4, 6), 0.5, np.float32)),
        ("a.tif", np.full((4, 6), 70000, np.int32)),
    ],
)
def test_images_with_more_than_8_bits(tmp_path, name, pixels):
    path = save(tmp_path / name, pixels)
    for wanted in (GREY, NCHW):
        text = message_of(lambda wanted=wanted: first_pass(path, wanted))
        assert text.startswith(f"calibration_data {str(path)!r} cannot be read as an image: its pixels are ")


def test_images_keep_their_size_where_it_is_open(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", RGB[:3, :2])
    data = open_data(tmp_path, ANY_SIZE)
    assert [batch["x"].shape for batch in data] == [(1, 3, 4, 6), (1, 3, 3, 2)]


@pytest.mark.parametrize("size", [(8, 12), (16, 24), (2, 3), (9, 11)])
def test_images_are_scaled(tmp_path, size):
    """As torch scales: bilinear, with as many pixels under the filter as one of the result covers."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3)).astype(np.uint8)
    (batch,) = first_pass(save(tmp_path / "a.png", pixels), model(x=(1, 3, *size)), images=ImageInput(rescale=1))
    source = torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32))
    height, width = size
    if height * 12 == width * 8:
        wanted = torch.nn.functional.interpolate(source, size, mode="bilinear", antialias=True)
        np.testing.assert_allclose(batch["x"], wanted.numpy(), atol=1.01)
    assert batch["x"].shape == (1, 3, *size)


@pytest.mark.parametrize(
    ("shape", "border"),
    [((20, 10), (slice(0, 4), slice(None))), ((10, 20), (slice(None), slice(0, 4)))],
)
def test_the_centre_is_taken(tmp_path, shape, border):
    """What is far from the centre along the longer side does not come in; the shorter side does entirely."""
    height, width = shape
    pixels = np.full((*shape, 3), 200, np.uint8)
    pixels[border] = 0
    pixels[tuple(slice(None, None, -1) if s == slice(None) else slice(-4, None) for s in border)] = 0
    (batch,) = first_pass(save(tmp_path / "a.png", pixels), model(x=(1, 3, 5, 5)), images=ImageInput(rescale=1))
    np.testing.assert_array_equal(batch["x"], 200)
    ramp = np.zeros((*shape, 3), np.uint8)
    longer = 0 if height > width else 1
    ramp += np.arange(20, dtype=np.uint8).reshape((20, 1, 1) if longer == 0 else (1, 20, 1)) * 10
    (batch,) = first_pass(save(tmp_path / "a.png", ramp), model(x=(1, 3, 10, 10)), images=ImageInput(rescale=1))
    np.testing.assert_array_equal(batch["x"][0, 0].max(axis=1 - longer), 10.0 * np.arange(5, 15))


@pytest.mark.parametrize(("height", "width", "wanted"), [(8, "W", (8, 12)), ("H", 3, (2, 3)), (1, "W", (1, 2))])
def test_one_side_is_fixed(tmp_path, height, width, wanted):
    (batch,) = first_pass(save(tmp_path / "a.png"), model(x=("N", 3, height, width)))
    assert batch["x"].shape == (1, 3, *wanted)


def test_very_long_images(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((1, 3000, 3), np.uint8))
    (batch,) = first_pass(path, NCHW)
    assert batch["x"].shape == (1, 3, 4, 6)
    (batch,) = first_pass(path, model(x=("N", 3, "H", 2)))
    assert batch["x"].shape == (1, 3, 1, 2)


def test_a_folder_of_images(tmp_path):
    for i in (10, 9, 2):
        save(tmp_path / f"{i:02}.png", np.full((4, 6, 3), i, np.uint8))
    np.savez(tmp_path / "03.npz", x=np.full((33, 3, 4, 6), 3, np.float32))
    data = open_data(tmp_path, NCHW, images=ImageInput(rescale=1), limit=100)
    assert data.samples == 36
    for _ in range(2):
        assert [float(batch["x"].max()) for batch in data] == [2, 3, 3, 9, 10]
        assert sizes(data) == [1, 32, 1, 1, 1]


def test_successive_images_make_a_batch(tmp_path):
    wanted = model(x=(2, 3, 4, 6))
    for i in range(4):
        save(tmp_path / f"{i}.png", np.full((4, 6, 3), i, np.uint8))
    data = open_data(tmp_path, wanted, images=ImageInput(rescale=1))
    assert (data.samples, len(data)) == (4, 2)
    assert [batch["x"][:, 0, 0, 0].tolist() for batch in data] == [[0, 1], [2, 3]]
    save(tmp_path / "4.png")
    text = message_of(lambda: open_data(tmp_path, wanted))
    left = "is the last of 1 images that are left over: the model takes 2 at a time"
    assert text == f"calibration_data {str(tmp_path / '4.png')!r} {left}"
    assert open_data(tmp_path, wanted, limit=5).samples == 4
    np.savez(tmp_path / "05.npz", x=np.zeros((2, 3, 4, 6), np.float32))  # between the first and the second image
    assert str(tmp_path / "0.png") in message_of(lambda: open_data(tmp_path, wanted))


def test_images_of_a_batch_have_one_size(tmp_path):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png", RGB[:3])
    data = open_data(tmp_path, model(x=(2, 3, "H", "W")))
    text = message_of(lambda: list(data))
    assert text.startswith(f"calibration_data {str(tmp_path / 'b.png')!r} has shape (3, 6, 3)")


@pytest.mark.parametrize(
    "wanted",
    [
        model(x=("N", 3)),
        model(x=("N", 3, 4)),
        model(x=("N", 3, 4, 6, 2)),
        model(x=("N", 4, 8, 8)),
        model(x=("N", "C", "H", "W")),
        model(x=("N", 3, 4, 6), z=("N", 3, 4, 6)),
        model(x=[DOUBLE, ("N", 3, 4, 6)]),
        model(x=[TensorProto.INT8, ("N", 3, 4, 6)]),
        model(x=[TensorProto.FLOAT16, ("N", 3, 4, 6)]),
    ],
)
def test_models_that_take_no_images(tmp_path, wanted):
    text = message_of(lambda: open_data(save(tmp_path / "a.png"), wanted))
    assert text.startswith("images are for ")
    assert "wants 'x' (" in text


IMAGE_BYTES = {}
for kind in ("png", "jpeg", "bmp", "tiff", "webp"):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)).save(file, kind)
    IMAGE_BYTES[kind] = file.getvalue()


@pytest.mark.parametrize(
    "content", [b"", b"hello", bytes(1000), b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe-3.0 EPSF-3.0\n"]
)
@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp", "tif"])
def test_images_that_are_none(tmp_path, content, kind):
    path = tmp_path / f"a.{kind}"
    path.write_bytes(content)
    data = open_data(path, NCHW)
    text = message_of(lambda: list(data))
    assert text.startswith(f"calibration_data {str(path)!r} cannot be read as an image: ")


@pytest.mark.filterwarnings("ignore")  # without them too it is an error
@pytest.mark.parametrize("kind", IMAGE_BYTES)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.3, 0.5, 0.9])
def test_truncated_images(tmp_path, kind, part):
    path = tmp_path / f"a.{kind}"
    content = IMAGE_BYTES[kind]
    path.write_bytes(content)
    assert len(first_pass(path, NCHW)) == 1
    path.write_bytes(content[: int(len(content) * part)])
    text = message_of(lambda: first_pass(path, NCHW))
    assert text.startswith(f"calibration_data {str(path)!r} cannot be read as an image: ")


@pytest.mark.filterwarnings("ignore")  # of Pillow, about files that it can read all the same
@pytest.mark.parametrize("kind", IMAGE_BYTES)
def test_damaged_images(tmp_path, kind, rng):
    path = tmp_path / f"a.{kind}"
    for _ in range(50):
        damaged = bytearray(IMAGE_BYTES[kind])
        for position in rng.integers(0, min(len(damaged), 300), 3):
            damaged[position] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            first_pass(path, NCHW)
        except ValueError as error:
            assert str(error).startswith(f"calibration_data {str(path)!r} cannot be read as an image: ")
            assert "\n" not in str(error)


def test_formats_that_only_the_name_promises(tmp_path):
    """A GIF named .png is none of the known kinds, a PNG named .jpg is one."""
    Image.fromarray(RGB).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    assert "cannot be read as an image" in message_of(lambda: first_pass(tmp_path / "a.png", NCHW))
    save(tmp_path / "b.png").rename(tmp_path / "b.jpg")
    assert len(first_pass(tmp_path / "b.jpg", NCHW)) == 1


def test_very_large_images(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    text = message_of(lambda: first_pass(save(tmp_path / "a.png"), NCHW))
    assert "cannot be read as an image" in text
    assert "decompression bomb" in text


def test_numbers_that_overflow(tmp_path):
    path = save(tmp_path / "a.png")
    text = message_of(lambda: first_pass(path, NCHW, images=ImageInput(std=(1e-38,), rescale=1e30)))
    assert text.endswith("holds inf at [0, 0, 0, 1]")


def test_images_are_for_images(tmp_path):
    np.save(tmp_path / "a.npy", rows(3))
    text = message_of(lambda: open_data(tmp_path / "a.npy", OPEN, images=ImageInput()))
    assert text == f"images are for files of images, calibration_data {str(tmp_path / 'a.npy')!r} has none"
    text = message_of(lambda: open_data(items(), OPEN, images=ImageInput()))
    assert text == "images are for files of images, calibration_data is list"
    text = message_of(lambda: open_data(items(), OPEN, images={"mean": 0}), TypeError)
    assert text == "images must be a bytenorm.onnx.ImageInput, got dict"
    for name, value in (("mean", (0.0, 0.0, 0.0)), ("std", (1.0, 1.0, 1.0))):
        images = ImageInput(**{name: value})
        text = message_of(lambda images=images: open_data(save(tmp_path / "a.png"), GREY, images=images))
        assert text.startswith(f"images have 3 numbers as {name}, the model wants 'x'")


def test_without_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", rows(3))
    monkeypatch.setitem(sys.modules, "PIL", None)
    text = message_of(lambda: open_data(path, NCHW), ImportError)
    assert text == 'images need Pillow: pip install "bytenorm[onnx]"'
    assert open_data(tmp_path / "a.npy", OPEN).samples == 3


def test_image_input():
    made = ImageInput(mean=[1, np.float32(0.5), 0], std=np.array([1.0, 2.0, 3.0]), rescale=np.float64(2))
    assert made == ImageInput((1.0, 0.5, 0.0), (1.0, 2.0, 3.0), 2.0)
    assert all(type(number) is float for number in (*made.mean, *made.std, made.rescale))
    assert ImageInput() == ImageInput((0.0,), (1.0,), 1 / 255)
    assert hash(made) == hash(ImageInput((1.0, 0.5, 0.0), (1.0, 2.0, 3.0), 2.0))
    with pytest.raises(AttributeError):
        made.rescale = 3


@pytest.mark.parametrize(
    ("arguments", "error", "shown"),
    [
        ({"mean": 0.5}, TypeError, "mean must be a tuple of numbers, such as (0.5,), got float"),
        ({"mean": "0.5"}, TypeError, "mean must be a tuple of numbers, such as (0.5,), got str"),
        ({"std": None}, TypeError, "std must be a tuple of numbers, such as (0.5,), got NoneType"),
        ({"mean": ("0.5",)}, TypeError, "mean[0] must be a real number"),
        ({"mean": (0.1, None, 0.1)}, TypeError, "mean[1] must be a real number"),
        ({"rescale": "1"}, TypeError, "rescale must be a real number"),
        ({"rescale": True}, TypeError, "rescale must be a real number"),
        ({"mean": ()}, ValueError, "mean must have 1 or 3 numbers, got 0"),
        ({"std": (1.0, 1.0)}, ValueError, "std must have 1 or 3 numbers, got 2"),
        ({"mean": (math.nan,)}, ValueError, "mean must be finite in float32, got nan"),
        ({"mean": (1e39,)}, ValueError, "mean must be finite in float32, got 1e+39"),
        ({"std": (0.0,)}, ValueError, "std must be positive and finite in float32, got 0.0"),
        ({"std": (1.0, -1.0, 1.0)}, ValueError, "std must be positive and finite in float32, got -1.0"),
        ({"std": (1e-50,)}, ValueError, "std must be positive and finite in float32, got 1e-50"),
        ({"std": (math.inf,)}, ValueError, "std must be positive and finite in float32, got inf"),
        ({"rescale": 0}, ValueError, "rescale must be positive and finite in float32, got 0.0"),
        ({"rescale": -1}, ValueError, "rescale must be positive and finite in float32, got -1.0"),
        ({"rescale": math.nan}, ValueError, "rescale must be positive and finite in float32, got nan"),
    ],
)
def test_image_inputs_that_are_none(arguments, error, shown):
    assert message_of(lambda: ImageInput(**arguments), error).startswith(shown)


def test_datasets_are_made_by_open_data():
    assert isinstance(open_data(items(), OPEN), Dataset)
