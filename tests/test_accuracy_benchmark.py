"""The accuracy benchmark: figures that a file keeps, and verdicts."""

import json

import numpy as np
import pytest
from benchmarks import report
from benchmarks.accuracy import networks, table
from benchmarks.accuracy.__main__ import main
from benchmarks.accuracy.layers import Layers
from benchmarks.accuracy.measure import Result
from benchmarks.accuracy.network import Network, Task

pytestmark = pytest.mark.thorough


def rows(**gains):
    """Return results of networks whose default has so many dB more than minmax."""
    made = {c: Result(30.0, None, 1.0, "") for c in ("minmax", "plain")}
    return {name: {**made, "default": Result(30.0 + gain, None, 1.0, "a step")} for name, gain in gains.items()}


def text_of(results, trained):
    about = {name: {"task": "", "source": "a package", "data": "noise"} for name in results}
    return report.markdown(table.blocks({"cpu": "one"}, about, results, trained))


@pytest.mark.parametrize(
    ("gains", "median", "worst"),
    [
        ({"a": 2.0, "b": 0.5, "c": 1.5}, "+1.50 dB (ok", "b, +0.50 dB (ok"),
        ({"a": 2.0, "b": 0.5, "c": 0.75}, "+0.75 dB (MISS", "b, +0.50 dB (ok"),
        ({"a": 2.0, "b": -0.75, "c": 1.5}, "+1.50 dB (ok", "b, -0.75 dB (MISS"),
    ],
)
def test_floors(gains, median, worst):
    text = text_of(rows(**gains), gains)
    assert f"trained networks: {median}" in text
    assert f"The worst: {worst}" in text
    assert ("plain on held-out samples: none" in text) is (min(gains.values()) >= 0)


def test_untrained_networks_count_for_the_worst_alone():
    text = text_of(rows(a=2.0, b=-3.0), {"a"})
    assert "median of 1 trained networks: +2.00 dB" in text
    assert "The worst: b, -3.00 dB" in text


def test_who_makes_no_network_is_named():
    results = rows(a=1.0)
    results["a"]["NNCF"] = Result(None, None, 0.5, "ValueError: not this one")
    assert "- NNCF, a: ValueError: not this one" in text_of(results, {"a"})


def small():
    """Return a network of one layer, for noise."""
    rng = np.random.default_rng(0)
    graph = Layers([2, 4, 4])
    graph.conv(rng.normal(size=(3, 2, 1, 1)))
    data = rng.uniform(-1, 1, (72, 2, 4, 4)).astype(np.float32)
    task = Task("values below 0", lambda outputs: float(np.sum(outputs[0] < 0)))
    return Network(graph.model([3, 4, 4]), data[:64], data[64:], task, "a package", "noise")


def test_a_file_keeps_what_was_measured(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(networks.NETWORKS, "digits", small)
    kept = tmp_path / "kept.json"
    command = ["--only", "digits", "--json", str(kept), "--contestants"]
    assert main([*command, "minmax"]) == 0
    content = json.loads(kept.read_text())
    first = content["networks"]["digits"]["results"]
    assert set(first) == {"float", "minmax"}
    assert first["minmax"]["snr_db"] > 30
    assert abs(first["minmax"]["figure"] - first["float"]["figure"]) < 10
    first["minmax"]["note"] = "as it was"
    kept.write_text(json.dumps(content))
    assert main([*command, "minmax", "plain"]) == 0
    second = json.loads(kept.read_text())["networks"]["digits"]["results"]
    assert set(second) == {"float", "minmax", "plain"}
    assert second["minmax"]["note"] == "as it was"
    assert "values below 0" in capsys.readouterr().out
