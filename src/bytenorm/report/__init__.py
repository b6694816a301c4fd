"""What the batch norms of a quantized ONNX model lose, measured on data, as one web page.

Needs what ``bytenorm.onnx`` needs, and no more.
"""

from .html.page import page
from .measurement import gather
from .results import NormReport, Report

__all__ = ["NormReport", "Report", "gather", "page"]
