"""What can be said about a target that is not at hand: legality, memory, bounds. All estimates."""
