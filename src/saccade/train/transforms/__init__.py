"""Looks into a job's transforms, so that the same can be done sooner, later or in another place."""
