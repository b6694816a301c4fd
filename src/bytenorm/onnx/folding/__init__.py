"""Norms taken up by the layers before or behind them."""
