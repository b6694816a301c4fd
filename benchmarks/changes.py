"""What has changed the figures of the pages: a page that is older says so in its header."""

from __future__ import annotations

# The time from which on a run has it, as pages write theirs, what it is, and what the name of a kind has that it
# is for. Whoever makes kernels or calls faster adds a line and runs ``python -m benchmarks.pages``.
CHANGES = {
    "measured": (
        ("2026-11-29 08:00 UTC", "norms in 16-bit words", ""),
        ("2026-11-29 13:30 UTC", "vector kernels of quantize and dequantize", ""),
        ("2026-11-29 13:53 UTC", "small planes walked across channels", "avx512"),
        ("2026-11-29 14:25 UTC", "odd channels side by side", ""),
        ("2026-11-29 14:42 UTC", "the norm of an exact sum in integers", ""),
        ("2026-11-29 22:10 UTC", "rows abreast and images as rows with AVX2", ""),
    ),
    "networks": (
        ("2026-11-29 08:40 UTC", "norms in 16-bit words", ""),
        ("2026-11-29 08:40 UTC", "the form in which qdq joins codes, with which OpenVINO takes DenseNet-121", ""),
    ),
}


def missing(page: str, kind: str, date: str) -> list[str]:
    """Return what a run of that date on that kind of CPU does not have yet."""
    return [what for since, what, of in CHANGES[page] if date < since and of in kind]
