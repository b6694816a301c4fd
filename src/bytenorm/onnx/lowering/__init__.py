"""Norms between conversions become operators on codes."""
