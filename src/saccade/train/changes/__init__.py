"""Changes of how a job is trained, one file each."""
