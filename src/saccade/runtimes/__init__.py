"""Inference runtimes, one file each behind `saccade.runtimes.contract`."""
