"""ST-GCN++: from samples to probabilities."""
