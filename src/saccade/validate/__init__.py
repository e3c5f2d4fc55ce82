"""Accuracy guard: drops with bounds, on data that nothing else has seen."""
