"""The command: ``python -m benchmarks.networks``, in the repository's root."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from bytenorm import onnx as bno

from .. import machine, pages, report
from ..output import add_markdown, publish, target, write
from ..timing import Method
from . import tables
from .measure import Result, run
from .network import NETWORKS, build

PACKAGES = ("openvino", "nncf", "scikit-image")
FULL = Method(rounds=101, dropped=5)
QUICK = Method(rounds=7, dropped=2)


def main(arguments: list[str] | None = None) -> int:
    """Measure networks, print the report and write it to files."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.keep and (options.quick or options.only != list(NETWORKS)):
        parser.error("--keep keeps whole runs: leave out --quick and --only")
    about = machine.describe() | {name: _version(name) for name in PACKAGES}
    about["weights"] = "8 bits"
    if bno.sums_saturate():
        about["weights"] = "7 bits, as 8-bit sums saturate here; bytenorm's what sums need"
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    results = [_measured(name, options.quick) for name in options.only]
    text = report.markdown(tables.blocks(about, results, options.quick))
    networks = {result.network: result.to_json() for result in results}
    content = {"machine": about, "quick": options.quick, "networks": networks}
    if options.keep:
        pages.keep("networks", content, text)
    if options.json:
        write(options.json, json.dumps(content, indent=1) + "\n")
    publish(text, options.markdown)
    return 0


def _measured(name: str, quick: bool) -> Result:
    def progress(what: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{name}: {what}")
            sys.stderr.flush()

    progress("built and quantized")
    try:
        return run(build(name), QUICK if quick else FULL, progress)
    finally:
        progress("done\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.networks",
        description="Measure whole 8-bit networks in ONNX Runtime, with and without bytenorm, beside OpenVINO.",
        epilog="networks: " + ", ".join(NETWORKS),
    )
    parser.add_argument("--quick", action="store_true", help="few rounds: figures are only roughly right")
    parser.add_argument(
        "--only",
        type=_networks,
        metavar="NAME[,NAME]",
        default=list(NETWORKS),
        help="these networks (default: all)",
    )
    parser.add_argument("--json", type=target, metavar="FILE", help="write all figures as JSON")
    add_markdown(parser)
    parser.add_argument(
        "--keep", action="store_true", help="write both into benchmarks/cpus, in the folder of this kind of CPU"
    )
    return parser


def _networks(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no network {', '.join(unknown)}; there are {', '.join(NETWORKS)}")
    return names


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
