"""Who fetches samples and makes batches of them, one file per backend."""
