"""Where the course of a training is written, one file per kind of logger."""
