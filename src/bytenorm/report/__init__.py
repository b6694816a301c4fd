"""What the batch norms of a quantized ONNX model lose, measured on data, as one web page.

Needs what ``bytenorm.onnx`` needs, and Jinja2: ``pip install "bytenorm[report]"``.
"""

try:
    import jinja2 as _jinja2  # noqa: F401
except ImportError as error:
    raise ImportError('bytenorm.report needs jinja2: pip install "bytenorm[report]"', name=error.name) from None

from .html.page import page
from .measurement import gather
from .results import NormReport, Report

__all__ = ["NormReport", "Report", "gather", "page"]
