"""Bottlenecks of a training, one pure rule per file: from a `TrainingProfile` to a `Finding`."""

from saccade.diagnose.training.diagnose import diagnose_training as diagnose_training
