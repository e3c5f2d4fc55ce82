"""Where the time goes: by stage, by operator, by resource."""
