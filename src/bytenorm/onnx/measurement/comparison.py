"""How far one model's outputs are from another's, on the same data."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from ..._text_table import text_table

COLUMNS = ("output", "SNR dB", "cosine", "top-1 %", "max error", "worst sample", "its SNR dB")


@dataclass(frozen=True)
class OutputComparison:
    """How far one output of the candidate is from the reference's.

    Attributes
    ----------
    name : str
        The reference's name of the output.
    snr_db : float
        ``10 log10(sum(reference**2) / sum((reference - candidate)**2))`` over all samples; inf when they are
        equal, -inf when only the reference is 0 everywhere.
    cosine : float
        Of the angle between all samples of the one and of the other; 0 when only one is 0 everywhere.
    top1_agreement : float or None
        The share of the samples with the largest value in the same place, the first of equals. None when the
        output is no floating-point array of shape (samples, at least 2).
    max_abs_error : float
    worst_sample : int
        The number of the sample with the lowest SNR, counted from 0, the first of equals. An output whose first
        dimension is not the batch's has one SNR a batch, and this is the first sample of that batch.
    worst_sample_snr_db : float
    problem : str
        Why the output cannot be compared; empty if it can. The other numbers are nan and None then, and
        `worst_sample` is the first sample that cannot be compared.
    broken : bool
        Whether the problem is that the candidate holds NaN or an infinity where the reference has a number, or in
        what :func:`quantize` reports that the model it made cannot be run.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
    >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
    >>> compared.outputs[0].snr_db, compared.outputs[0].max_abs_error
    (inf, 0.0)
    """

    name: str
    snr_db: float
    cosine: float
    top1_agreement: float | None
    max_abs_error: float
    worst_sample: int
    worst_sample_snr_db: float
    problem: str = ""
    broken: bool = False


@dataclass(frozen=True)
class Comparison:
    """How far a candidate is from its reference; ``str`` gives a table.

    Attributes
    ----------
    outputs : tuple of OutputComparison
        In the reference's order.
    samples : int
        How many samples both were run on.

    Examples
    --------
    >>> import numpy as np
    >>> from bytenorm import onnx as bno
    >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
    >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
    >>> compared.samples, [output.name for output in compared.outputs]
    (2, ['logits'])
    """

    outputs: tuple[OutputComparison, ...]
    samples: int

    def __str__(self) -> str:
        return "\n".join((text_table(COLUMNS, self.rows()), *self.remarks()))

    def remarks(self) -> list[str]:
        """Return a line for each output that cannot be compared.

        Returns
        -------
        list of str

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
        >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
        >>> compared.remarks()
        []
        """
        return [
            f"{' '.join(out.name.split())}: not comparable: {out.problem}" for out in self.outputs if out.problem
        ]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the table's rows.

        Returns
        -------
        list of tuple of str
            A text for each column of the table that ``str`` gives.

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
        >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
        >>> compared.rows()
        [('logits', 'inf', '1.000000', '100.00', '0', '0', 'inf')]
        """
        return [
            (
                " ".join(out.name.split()),
                *(
                    ["-"] * (len(COLUMNS) - 1)
                    if out.problem
                    else [
                        f"{out.snr_db:.2f}",
                        f"{out.cosine:.6f}",
                        "-" if out.top1_agreement is None else f"{100 * out.top1_agreement:.2f}",
                        f"{out.max_abs_error:.4g}",
                        str(out.worst_sample),
                        f"{out.worst_sample_snr_db:.2f}",
                    ]
                ),
            )
            for out in self.outputs
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold: a number that is not finite is None there.

        Without a ``problem`` that is an SNR: with ``max_abs_error`` 0 it stands for inf, equal outputs, otherwise
        for -inf, a reference of zeros.

        Returns
        -------
        dict
            By the names of the attributes; an output is a dict, too.

        Examples
        --------
        >>> import numpy as np
        >>> from bytenorm import onnx as bno
        >>> samples = [{"image": np.zeros((2, 1, 28, 28), np.float32)}]
        >>> compared = bno.compare(bno.digits_model(), bno.digits_model(), samples)
        >>> compared.to_dict()["outputs"][0]["snr_db"] is None
        True
        """
        made = asdict(self)
        made["outputs"] = [
            {
                key: None if isinstance(value, float) and not math.isfinite(value) else value
                for key, value in out.items()
            }
            for out in made["outputs"]
        ]
        return made


def uncomparable(name: str, problem: str, sample: int = 0, *, broken: bool = False) -> OutputComparison:
    """Return what is said of an output that cannot be compared."""
    return OutputComparison(name, math.nan, math.nan, None, math.nan, sample, math.nan, problem, broken)
