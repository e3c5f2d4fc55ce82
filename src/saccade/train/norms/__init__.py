"""Batch normalization of trainings on a CPU, with the ReLU behind it, in kernels of our own."""
