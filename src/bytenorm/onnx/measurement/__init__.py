"""Models looked at, compared and timed."""
