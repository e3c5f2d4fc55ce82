"""Where models come from, one file per kind of reference: files, factories, hub names."""
