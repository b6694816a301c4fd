"""The pages of each kind of CPU: named for it, true to their figures, and honest about their age."""

import json

import pytest
from benchmarks import pages
from benchmarks.__main__ import main
from benchmarks.changes import CHANGES, missing
from benchmarks.kinds import kind
from benchmarks.networks.__main__ import main as main_of_networks

AMD, INTEL = "AuthenticAMD", "GenuineIntel"


@pytest.mark.parametrize(
    ("vendor", "family", "model", "flags", "isa", "name"),
    [
        (AMD, 25, 1, "avx2", "avx2", "zen3-avx2"),
        (AMD, 25, 17, "avx2 avx512f", "avx512vbmi", "zen4-avx512vbmi"),
        (AMD, 23, 49, "avx2", "avx2", "zen2-avx2"),
        (INTEL, 6, 143, "avx512f amx_tile amx_int8", "avx512vbmi", "sapphire-rapids-avx512vbmi-amx"),
        (INTEL, 6, 85, "avx512f", "avx512", "skylake-server-avx512"),
        (INTEL, 6, 9999, "avx2", "avx2", "cpu-avx2"),
        ("unheard of", 1, 2, "", "scalar", "cpu-scalar"),
    ],
)
def test_a_kind_has_a_name(vendor, family, model, flags, isa, name):
    about = {"vendor_id": vendor, "cpu family": str(family), "model": str(model), "flags": flags}
    assert kind(about, isa) == name


def test_a_machine_that_does_not_say_has_a_name():
    assert kind({}, "scalar") == "cpu-scalar"
    assert kind()  # this one


def test_every_page_follows_from_its_figures():
    """The page side by side and each header are what `python -m benchmarks.pages` writes."""
    found = list(pages.kept())
    assert {path.stem for path, _ in found} == set(CHANGES)
    for path, content in found:
        text = path.with_suffix(".md").read_text(encoding="utf-8")
        assert pages.with_age(text, path, content) == text
        assert content["machine"]["date"] in text
    assert (pages.CPUS / "README.md").read_text(encoding="utf-8") == pages.side_by_side()


def test_an_older_page_says_so_and_a_newer_does_not(tmp_path):
    path = tmp_path / "zen4-avx512vbmi" / "measured.json"
    old, new = ({"machine": {"date": date}} for date in ("2020-01-01 00:00 UTC", "2999-01-01 00:00 UTC"))
    page = "# Title\n\nText.\n"
    aged = pages.with_age(page, path, old)
    assert aged.splitlines()[2].startswith("**Older than norms in 16-bit words; ")
    assert pages.with_age(aged, path, old) == aged
    assert pages.with_age(aged, path, new) == page
    assert "small planes walked across channels" in missing("measured", "zen4-avx512vbmi", "2020")
    assert "small planes walked across channels" not in missing("measured", "zen3-avx2", "2020")


def test_a_run_is_kept_in_the_folder_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "CPUS", tmp_path)
    figure = {"name": "x torch", "value": 2.5, "unit": ""}
    cases = [{"label": "quantize_per_tensor", "figures": [figure]}]
    content = {"machine": {"date": "2999-01-01 00:00 UTC"}, "sections": {"quantize": {"cases": cases}}}
    folder = pages.keep("measured", content, "# Title\n\nText.\n")
    assert folder == tmp_path / kind()
    assert json.loads((folder / "measured.json").read_text()) == content
    assert (folder / "measured.md").read_text() == "# Title\n\nText.\n"
    shown = (tmp_path / "README.md").read_text()
    assert f"[2999-01-01]({kind()}/measured.md)" in shown
    row = next(line for line in shown.splitlines() if "quantize_per_tensor" in line)
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["quantize_per_tensor", "x torch", "2.5"]


@pytest.mark.parametrize("command", [main, main_of_networks])
def test_only_whole_runs_are_kept(command, capsys):
    with pytest.raises(SystemExit):
        command(["--keep", "--quick"])
    assert "leave out --quick and --only" in capsys.readouterr().err
