"""Two models on the same frames: what they can do once, planned, measured and judged."""
