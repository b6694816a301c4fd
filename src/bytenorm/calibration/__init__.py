"""What quantized data is like, exactly: statistics of channels. NumPy only."""

from .statistics import ChannelStatistics

__all__ = ["ChannelStatistics"]
