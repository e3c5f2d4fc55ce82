"""Plan, try, keep what pays."""
