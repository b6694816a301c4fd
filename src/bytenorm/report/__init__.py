"""What the batch norms of a quantized ONNX model lose, measured on data, as one web page.

Needs what ``bytenorm.onnx`` needs, and no more.
"""

from .gathering import NormReport, Report, gather
from .page import page

__all__ = ["NormReport", "Report", "gather", "page"]
