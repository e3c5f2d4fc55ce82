"""Jobs that `saccade train init` writes, one file per task; they also run as they stand."""
