"""The report of a training: step times before and after, loss curves, interactions."""
