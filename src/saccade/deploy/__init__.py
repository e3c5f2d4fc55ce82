"""The bundle that runs."""
