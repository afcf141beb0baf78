"""Runs over many videos: inputs, workers, progress, manifests, charts."""
