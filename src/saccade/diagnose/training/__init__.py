"""Bottlenecks of a training, one pure rule per file: from a `TrainingProfile` to a `Finding`."""
