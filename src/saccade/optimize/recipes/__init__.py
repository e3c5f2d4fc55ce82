"""Recipes: functions from a training job to a training job, run by the same loop."""
