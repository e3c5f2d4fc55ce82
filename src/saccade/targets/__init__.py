"""Machines that a system can be made for, as small data files, and what is known of them."""
