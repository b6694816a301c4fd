"""What quantized data is like, exactly, and what a norm needs of it. NumPy only.

Statistics of channels, a scale and a zero point for a norm's output, and norms with the statistics of their data.
"""

from .qparams.output_qparams import OutputQParams, choose_output_qparams
from .reestimation import reestimate
from .statistics import ChannelStatistics

__all__ = ["ChannelStatistics", "OutputQParams", "choose_output_qparams", "reestimate"]
