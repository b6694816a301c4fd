"""SpliceAI, which finds where exons of a gene end: a residual network whose norms come before the convolutions."""

from __future__ import annotations

import numpy as np

from .. import keras_models
from ..network import Array, Network, Outputs, Task
from ..packages import Package

PACKAGE = Package("spliceai", "1.3.1", "CC BY-NC 4.0")
SEQUENCE = Package("pyfaidx", "0.9.2.2", "BSD-3-Clause", sdist=True)
CONTEXT, WINDOW = 5000, 1000
GENE = slice(6010, 31_427)  # DOC2B, in GRCh37's chromosome 17, on the reverse strand
EXONS = ((6010, 6168), (11_205, 11_332), (11_871, 11_981), (13_920, 13_995), (22_327, 22_407), (30_897, 31_427))


def splicing() -> Network:
    """Return the first of SpliceAI's five networks on a gene: every other window calibrates."""
    windows = -(-(GENE.stop - GENE.start) // WINDOW)
    length = 2 * CONTEXT + WINDOW
    model = keras_models.load(PACKAGE.file("spliceai/models/spliceai1.h5"), [4, length], [3, WINDOW])
    lines = SEQUENCE.file("tests/data/chr17.hg19.part.fa").read_text().splitlines()[1:]
    chromosome = "".join(lines).upper()
    # Outside of the gene the network was taught nothing: N.
    strand = "".join("ACGTN"["TGCAN".index(c)] for c in reversed(chromosome[GENE]))
    strand = "N" * CONTEXT + strand + "N" * (CONTEXT + windows * WINDOW - len(strand))
    codes = np.array(["ACGT".find(c) for c in strand])
    one_hot = (codes == np.arange(4)[:, np.newaxis]).astype(np.float32)
    data = np.stack([one_hot[:, at * WINDOW : at * WINDOW + length] for at in range(windows)])
    sites = _sites(windows * WINDOW).reshape(windows, WINDOW)[1::2]

    def missed(outputs: Outputs) -> float:
        """Count how many of the k sites are not among the k likeliest places, for both kinds."""
        wrong = 0
        for kind in (1, 2):
            wanted = np.flatnonzero(sites == kind)
            found = np.argsort(-outputs[0][:, kind].ravel())[: len(wanted)]
            wrong += len(np.setdiff1d(wanted, found))
        return float(wrong)

    return Network(
        model,
        data[::2],
        data[1::2],
        Task(f"missed sites of {np.count_nonzero(sites)}", missed),
        str(PACKAGE),
        f"the human gene DOC2B, in windows of {WINDOW} bases and {CONTEXT} on either side; {SEQUENCE}",
    )


def _sites(length: int) -> Array:
    """Return 1 where an exon begins (acceptor), 2 where it ends (donor), along the gene's strand."""
    kinds = np.zeros(length, np.float32)
    for start, stop in EXONS:
        if stop != GENE.stop:  # the first exon begins at no intron
            kinds[GENE.stop - stop] = 1
        if start != GENE.start:
            kinds[GENE.stop - 1 - start] = 2
    return kinds
