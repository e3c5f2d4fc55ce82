"""Other architectures in the place of a job's own, one file each: from a module to another."""
