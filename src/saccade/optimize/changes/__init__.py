"""Optimizations, one file each."""
