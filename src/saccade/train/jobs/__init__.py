"""Where training jobs come from, one file per kind."""
