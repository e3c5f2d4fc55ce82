"""From one model format to another, one file each, checked numerically."""
