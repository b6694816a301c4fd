"""What is refused: in one line, with exit code 2, and nothing is written."""

import os

import onnx
import pytest
from command_line import DIGITS, contents, words

from bytenorm.onnx.quantization import comparing

Q = "quantize {digits} -o out.onnx --data "


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("inspect missing.onnx", "model 'missing.onnx' does not exist"),
        ("inspect folder", "model 'folder' is a folder: a file is wanted"),
        ("inspect text.onnx", "model 'text.onnx' is no ONNX model, or a damaged one"),
        ("inspect empty.onnx", "model 'empty.onnx' is empty: an ONNX model is wanted"),
        ("inspect truncated.onnx", "model 'truncated.onnx' is no ONNX model"),
        ("inspect opset.onnx", "model 'opset.onnx' has opset 99: "),
        ("inspect invalid.onnx", "model 'invalid.onnx' has a node BatchNormalization 'stem/norm' with 0 inputs"),
        (
            "quantize invalid.onnx -o out.onnx --data {data}",
            "model 'invalid.onnx' has a node BatchNormalization 'stem/norm' with 0 inputs",
        ),
        ("quantize missing.onnx -o out.onnx --data {data}", "model 'missing.onnx' does not exist"),
        ("quantize {stock} -o out.onnx --data {data}", "model '{stock}' is quantized: bytenorm lower takes those"),
        ("quantize {portable} -o out.onnx --data {data}", "model '{portable}': its norms are lowered already"),
        (
            "quantize other.onnx -o out.onnx --data {data}",
            "--data '{data}': input 'x' must fit 'x' (float32 [?, 3]), got shape",
        ),
        (Q + "missing", "--data 'missing' does not exist"),
        (Q + "folder", "--data 'folder' is a folder without files"),
        (Q + "text.onnx", "--data 'text.onnx' is of no known kind"),
        (Q + "nan.npz", "--data 'nan.npz': input 'image' holds nan at "),
        (Q + "double.npz", "--data 'double.npz': input 'image' must be float32, got float64"),
        (Q + "names.npz", "--data 'names.npz': 'image' is missing, 'picture' is unknown, 'label'"),
        (Q + "none.npz", "--data 'none.npz': input 'image' is empty"),
        (Q + "damaged.npz", "--data 'damaged.npz' cannot be read as a .npz file"),
        (Q + "{data} --limit 0", "--limit must be at least 1, got 0"),
        (Q + "{data} --mean 1", "--mean, --std or --rescale are for files of images, --data '{data}' has none"),
        (Q + "{data} --mean 1 2", "--mean must have 1 or 3 numbers, got 2"),
        (Q + "{data} --std 0", "--std must be positive and finite in float32, got 0.0"),
        (Q + "{data} --rescale nan", "--rescale must be positive and finite in float32, got nan"),
        (Q + "{data} --exclude no/such", "--exclude: the model has no node 'no/such'"),
        (
            Q + "{data} --exclude Stem/norn",
            "--exclude: the model has no node 'Stem/norn': did you mean 'stem/norm'?",
        ),
        (Q + "{data} --only-type conv", "--only-type: the quantizer knows no 'conv': did you mean 'Conv'?"),
        (Q + "{data} --only stem/conv --exclude stem/conv", "--only: 'stem/conv' is in --exclude, too"),
        (
            Q + "{data} --extra-option CalibPercentile=99.9 --calibrate-method entropy",
            "--extra-option: CalibPercentile must come with --calibrate-method percentile, got 'entropy'",
        ),
        ("lower {digits} -o out.onnx", "model '{digits}' is in float: bytenorm quantize takes those"),
        ("lower {portable} -o out.onnx", "model '{portable}': its norms are lowered already ('portable')"),
        ("compare missing {digits} --data {data}", "model 'missing' does not exist"),
        ("compare {digits} text.onnx --data {data}", "model 'text.onnx' is no ONNX model"),
        (
            "compare {digits} other.onnx --data {data}",
            "candidate 'other.onnx' must have the inputs of reference '{digits}', 'image'",
        ),
        ("compare {digits} {portable} --data nan.npz", "--data 'nan.npz': input 'image' holds nan at "),
        ("compare {digits} {portable} --data {data} --limit -1", "--limit must be at least 1, got -1"),
        ("bench missing", "model 'missing' does not exist"),
        ("bench {digits} text.onnx", "model 'text.onnx' is no ONNX model"),
        ("bench {digits} other.onnx", "model 'other.onnx' wants 'x' (float32 [?, 3]), the first model is fed 'im"),
        (
            "bench open.onnx",
            "model 'open.onnx': its input 'pic' (float32 [?, 3, ?]) has a size that is not known: ",
        ),
        ("bench {digits} --data {data} --batch 7", "--data '{data}' has 6 samples, a batch has 7"),
        ("bench {digits} --batch 0", "--batch must be at least 1, got 0"),
        ("bench {digits} --threads 0", "--threads must be 1 to "),
        ("bench {digits} --threads 100000", "--threads must be 1 to "),
        ("bench {digits} --seconds 0", "--seconds must be positive and finite, got 0.0"),
        ("bench {digits} --repeats 0", "--repeats must be at least 1, got 0"),
        ("bench {digits} --rescale 1", "--mean, --std or --rescale must come with --data"),
        ("bench {digits} --data double.npz", "--data 'double.npz': input 'image' must be float32, got float64"),
    ],
)
def test_bad_input_is_one_line(line, wanted, bad, made, complaint):
    names = {
        "digits": DIGITS,
        "data": made / "data.npz",
        "stock": made / "stock.onnx",
        "portable": made / "portable.onnx",
    }
    before = contents(bad)
    assert complaint(*words(line, **names)).startswith(wanted.format(**names))
    assert contents(bad) == before


@pytest.mark.parametrize("command", ["quantize {digits} --data missing", "lower missing"])
@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        ("there.onnx", "output 'there.onnx' exists: give --force to replace it"),
        ("folder", "output 'folder' is a folder and is not replaced: a file is wanted"),
        ("new/", "output 'new/' names a folder: a file is wanted"),
        (". --force", "output '.' names a folder: a file is wanted"),
        ("folder --force", "output 'folder' is a folder and is not replaced: a file is wanted"),
        ("link.onnx --force", "output 'link.onnx' is a broken link and is not replaced: a file is wanted"),
        ("no/out.onnx", "output 'no/out.onnx' cannot be written: the folder 'no' does not exist"),
        ("there.onnx/out.onnx", "output 'there.onnx/out.onnx' cannot be written: "),
        ("/proc/out.onnx", "output '/proc/out.onnx' cannot be written: "),
        ("{long}", "output '{long}' cannot be reached: File name too long"),
    ],
)
def test_the_output_is_looked_at_first(command, output, wanted, bad, complaint):
    """The model or the data is not there either: what is said shows what is looked at first."""
    names = {"digits": DIGITS, "long": 300 * "x"}
    before = contents(bad)
    assert complaint(*words(f"{command} -o {output}", **names)).startswith(wanted.format(**names))
    assert contents(bad) == before


def test_force_replaces(made, bad, output):
    output("lower", made / "stock.onnx", "-o", "there.onnx", "--force")
    assert onnx.load_model("there.onnx").graph.node


@pytest.fixture
def readable(made, bad):
    """Return names of commands' inputs, with what each may replace: what is read, by all its names."""
    model, data, folder = bad / "model.onnx", bad / "data.npz", bad / "calibration"
    model.write_bytes((made / "stock.onnx").read_bytes())
    data.write_bytes((made / "data.npz").read_bytes())
    folder.mkdir()
    (folder / "one.npz").write_bytes(data.read_bytes())
    apart = onnx.load_model(DIGITS)
    onnx.save_model(
        apart, bad / "apart.onnx", save_as_external_data=True, location="apart.onnx.data", size_threshold=0
    )
    for name, target in (("link", model), ("link.npz", data), ("linked.data", bad / "apart.onnx.data")):
        (bad / name).symlink_to(target)
    (bad / "hard").hardlink_to(model)
    (bad / "hard.npz").hardlink_to(folder / "one.npz")
    (bad / "late.data").hardlink_to(data)
    return bad


MODEL, DATA, INSIDE, TENSORS = (
    "is the model itself",
    "is the data",
    "is a file of the data",
    "is a file with tensors of the model",
)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("lower model.onnx -o model.onnx", f"output 'model.onnx' {MODEL}"),
        ("lower model.onnx -o ./folder/../model.onnx", f"output './folder/../model.onnx' {MODEL}"),
        ("lower model.onnx -o link", f"output 'link' {MODEL}"),
        ("lower link -o model.onnx", f"output 'model.onnx' {MODEL}"),
        ("lower model.onnx -o hard", f"output 'hard' {MODEL}"),
        ("quantize model.onnx --data data.npz -o model.onnx", f"output 'model.onnx' {MODEL}"),
        ("quantize model.onnx --data data.npz -o hard", f"output 'hard' {MODEL}"),
        ("quantize model.onnx --data data.npz -o ./data.npz", f"output './data.npz' {DATA}"),
        ("quantize model.onnx --data link.npz -o data.npz", f"output 'data.npz' {DATA}"),
        (
            "quantize model.onnx --data calibration -o calibration/one.npz",
            f"output 'calibration/one.npz' {INSIDE}",
        ),
        ("quantize model.onnx --data calibration -o hard.npz", f"output 'hard.npz' {INSIDE}"),
        ("quantize apart.onnx --data data.npz -o apart.onnx.data", f"output 'apart.onnx.data' {TENSORS}"),
        ("quantize apart.onnx --data data.npz -o linked.data", f"output 'linked.data' {TENSORS}"),
        ("lower apart.onnx -o linked", "output 'linked', whose tensors may go to 'linked.data', " + TENSORS),
        (
            "quantize model.onnx --data data.npz -o late",
            f"output 'late', whose tensors may go to 'late.data', {DATA}",
        ),
        ("report model.onnx --data data.npz -o link", f"output 'link' {MODEL}"),
        ("report apart.onnx --data data.npz -o apart.onnx.data", f"output 'apart.onnx.data' {TENSORS}"),
        ("report model.onnx --data calibration -o hard.npz", f"output 'hard.npz' {INSIDE}"),
    ],
)
def test_what_is_read_is_never_replaced(line, wanted, readable, complaint):
    before = contents(readable)
    assert complaint(*line.split(), "--force") == wanted
    assert complaint(*line.split()) == wanted
    assert contents(readable) == before


def test_a_file_that_appears_meanwhile_stays(made, place, complaint, monkeypatch):
    compare = comparing.compare

    def slow(*arguments, **options):
        (place / "out.onnx").write_text("somebody else's")
        return compare(*arguments, **options)

    monkeypatch.setattr(comparing, "compare", slow)
    text = complaint("quantize", DIGITS, "--data", made / "data.npz", "-o", "out.onnx")
    assert text == "output 'out.onnx' exists: give --force to replace it"
    assert (place / "out.onnx").read_text() == "somebody else's"


def test_a_full_disk_leaves_the_old_file(made, bad, complaint, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    before = contents(bad)
    text = complaint("lower", made / "stock.onnx", "-o", "there.onnx", "--force")
    assert text == "output 'there.onnx' cannot be written: No space left on device"
    assert contents(bad) == before
