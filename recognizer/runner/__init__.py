"""mmengine's Runner with safe checkpoints and exact resuming, for action and pose networks."""
