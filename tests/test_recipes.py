"""The recipes of docs/kernels-adding.md name the files that they change: those that name another of the kind."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/kernels-adding.md").read_text(encoding="utf-8")
SOURCES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [ROOT / "CMakeLists.txt", *sorted((ROOT / "native").rglob("*.?pp"))]
}
# A recipe, what it once added, in which files of its own that lies, and how many others it may change at most.
FOLLOWED = [
    ("An instruction set", r"avx2", r"native/kernels/avx2/|native/simd/avx2", 6),
    ("An instruction set", r"neon", r"native/kernels/neon/|native/simd/neon", 5),
    ("An arithmetic", r"(\w+_)?[wW]ords16\w*", r"native/(kernels/arithmetic/|fold/)words16|native/python/fits", 5),
    ("A layout", r"Joined", r"native/(kernels/loops|passes)/joined", 5),
    ("An operator", r"bind_statistics", r"native/python/statistics", 2),
    ("An operator for ONNX Runtime", r"qlinear_add_batch_norms", r"native/onnxruntime/qlinear_add", 2),
]
INTRINSICS = re.compile(r"\b_mm\d*_|\b__m(128|256|512)|\bv\w+q?_[usf](8|16|32|64)\(|\bimmintrin\b|\barm_neon\b")


def recipe(title):
    """Return the paths that a recipe names; what it says is new comes first and is no file."""
    (text,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return {path for path in re.findall(r"`((?:native/[\w/.]+|CMakeLists\.txt))`", text) if path in SOURCES}


@pytest.mark.parametrize(("title", "word", "own", "most"), FOLLOWED, ids=str)
def test_a_recipe_names_every_file_that_it_changes(title, word, own, most):
    named = {path for path, text in SOURCES.items() if re.search(rf"\b{word}\b", text)}
    changed = {path for path in named if not re.match(own, path)}
    assert changed < named, "something of its own"
    assert changed <= recipe(title)
    assert len(changed) <= most


def test_every_path_of_the_pages_exists():
    for page in (ROOT / "docs").glob("kernels*.md"):
        for path in re.findall(r"`(native/[\w/.]+)`", page.read_text(encoding="utf-8")):
            assert (ROOT / path).exists(), path


def test_intrinsics_stay_with_their_instruction_set():
    """In the headers of vectors, and in what one set alone has."""
    found = {path for path, text in SOURCES.items() if INTRINSICS.search(text)}
    assert {
        path for path in found if not re.match(r"native/(simd|kernels/(?!scalar|loops|arithmetic)\w+)/", path)
    } == set()
    assert "native/simd/avx2.hpp" in found
