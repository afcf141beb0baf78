"""mmengine's Runner, wrapped once: safe checkpoints, exact resume, for action and pose alike."""
