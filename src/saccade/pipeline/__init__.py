"""From frames to results: the configuration, the stages and the engines that run them."""
