"""The figures saccade holds itself to, measured; `make bench` prints them as one table."""
