"""What `make demo` runs, and the benchmark's smallest section."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).parent.parent


def run(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_photographs(tmp_path):
    done = run("examples/normalize_photos.py", "--output", str(tmp_path), "--json", str(tmp_path / "result.json"))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["photographs"] >= 15
    assert result["largest_difference"] <= 1
    assert result["passed"]
    assert result["differ"] * 100_000 <= result["pixels"] * 3
    assert (tmp_path / "normalize_photos.png").stat().st_size > 100_000


def test_photographs_say_what_is_wrong_with_the_output(tmp_path):
    (tmp_path / "taken").write_text("")
    done = run("examples/normalize_photos.py", "--output", str(tmp_path / "taken"))
    assert done.returncode == 2
    assert "taken" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_benchmark_runs(tmp_path):
    done = run("-m", "benchmarks", "--quick", "--only", "calls", "--json", str(tmp_path / "calls.json"))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "calls.json").read_text())
