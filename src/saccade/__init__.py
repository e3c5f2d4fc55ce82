"""saccade: makes computer-vision systems meet their goals, by measurement."""
