"""Files: those that are given, those that are written, and arrays in NumPy's formats."""
