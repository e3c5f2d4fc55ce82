"""The parts of `measure.py`: Python 3.8 and NumPy only. `assemble` joins them into one file."""
