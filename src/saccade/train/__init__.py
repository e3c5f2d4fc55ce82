"""The training loop as a value that can be measured: job, configuration, loader, loop."""
