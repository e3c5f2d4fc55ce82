"""Model files that a kit can hold, one export each; what this machine can make now."""
