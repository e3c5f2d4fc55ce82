"""Load and describe a model: input, layout, preprocessing, decode."""
