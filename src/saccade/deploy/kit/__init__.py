"""The kit: candidates, frames and one script, to be measured on a device that is not at hand."""
