"""The graph of a model: who makes and who reads a tensor, and common changes of it."""
