"""Who matters: ``involvement`` of tracked people in a fight or a fall."""
