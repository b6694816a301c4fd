"""``bytenorm compare``."""

from command_line import DIGITS, as_json, documented, keys_of

from bytenorm import onnx as bno


def test_compare_prints_the_librarys_table(made, output):
    out = output("compare", DIGITS, made / "portable.onnx", "--data", made / "data.npz")
    assert str(bno.compare(DIGITS, made / "portable.onnx", made / "data.npz")) in out
    assert "\non 6 samples\n" in out
    out = output("compare", DIGITS, made / "portable.onnx", "--data", made / "data.npz", "--limit", 1)
    assert "\non 1 sample\n" in out


def test_compare_as_json(made, output, capsys):
    found = as_json(output("compare", DIGITS, DIGITS, "--data", made / "data.npz", "--json"))
    assert found == {
        "reference": DIGITS,
        "candidate": DIGITS,
        "reference_saturates": False,
        "candidate_saturates": False,
        "samples": 6,
        "skipped": [],
        "outputs": [
            {
                "name": "logits",
                "snr_db": None,
                "cosine": 1.0,
                "top1_agreement": 1.0,
                "max_abs_error": 0.0,
                "worst_sample": 0,
                "worst_sample_snr_db": None,
                "problem": "",
                "broken": False,
            }
        ],
    }
    assert keys_of(found) <= documented(capsys, "compare")
