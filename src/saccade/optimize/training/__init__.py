"""Search for a faster training: measure, try changes together, in pairs and alone, judge."""
