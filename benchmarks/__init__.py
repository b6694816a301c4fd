"""How fast bytenorm is, beside what else does the same work: ``python -m benchmarks --help``."""
