"""What a norm needs from data: a scale and a zero point for its output, and its statistics. Needs NumPy alone."""

from .output_qparams import OutputQParams, choose_output_qparams
from .reestimation import reestimate

__all__ = ["OutputQParams", "choose_output_qparams", "reestimate"]
