"""The data that commands run models on."""

from pathlib import Path

import numpy as np
import pytest
from command_line import DIGITS, as_json, words
from PIL import Image


def test_images_in_colour_for_one_channel(place, made, output, rng):
    colours = rng.integers(0, 256, (28, 28, 3), np.uint8)
    Path("grey").mkdir()
    Image.fromarray(colours).save("colour.png")
    Image.fromarray(colours[..., 0]).save("grey/a.png")
    said = "images in colour are made grey: input 'image' of the model has one channel"
    models = (DIGITS, made / "portable.onnx")
    assert output("compare", *models, "--data", "colour.png").splitlines()[0] == said
    assert said not in output("compare", *models, "--data", "grey")


@pytest.mark.thorough
def test_several_paths_and_folders_by_class(place, made, output, complaint):
    """And the models may stand behind them, as behind one path."""
    rng = np.random.default_rng(3)
    for name in ("pictures/cat/a.png", "pictures/dog/b.png", "more/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (28, 28), np.uint8)).save(name)
    for name in ("pictures/labels.csv", "pictures/dog/.hidden", "more/x.txt", "more/y.txt", "more/z.txt"):
        Path(name).write_text("foreign")
    skipped = "skipped, of no known kind: 'pictures/labels.csv', 'more/x.txt', 'more/y.txt' and 1 more"
    for line in (
        "compare {digits} {made}/portable.onnx --data pictures more",
        "compare --data pictures more {digits} {made}/portable.onnx",
        "compare {digits} --data pictures more {made}/portable.onnx",
        "compare --data pictures {digits} {made}/portable.onnx --data more/*",
    ):
        arguments = words(line, digits=DIGITS, made=made)
        lines = [line for line in output(*arguments).splitlines() if not line.startswith("note on ")]  # of the CPU
        assert (lines[0], lines[-1]) == (skipped, "on 3 samples")
        found = as_json(output(*arguments, "--json"))
        assert len(found["skipped"]) == 4
        assert found["samples"] == 3
    found = as_json(output("bench", DIGITS, "--data", "pictures/*/*.png", "--repeats", 1, "--json"))
    assert (found["data"], found["skipped"]) == (["pictures/*/*.png"], [])
    report = ("report", made / "portable.onnx", "--data", "more/c.png", "pictures", "-o", "page.html", "--json")
    assert as_json(output(*report))["samples"] == 3
    assert "more/c.png, pictures" in Path("page.html").read_text()
    assert complaint("compare", DIGITS, DIGITS, "--data", "more", "more/c.png").startswith(
        "--data 'more/c.png' is named twice"
    )
    for data in ("more/*", "more", "mo*"):
        line = ("quantize", DIGITS, "--data", data, "-o", "more/c.png", "--force")
        assert complaint(*line) == "output 'more/c.png' is a file of the data"
