"""Models run: sessions, and what a CPU needs of a model."""
