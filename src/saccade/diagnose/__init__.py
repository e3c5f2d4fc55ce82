"""Rules that name bottlenecks: pure functions from a profile to findings."""
