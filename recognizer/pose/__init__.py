"""Image -> Poses: what a pose network means, whatever runs it."""
