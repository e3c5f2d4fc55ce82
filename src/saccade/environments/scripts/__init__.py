"""What runs in tool environments. These files import nothing of saccade: it is not there."""
