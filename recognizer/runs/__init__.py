"""What every run shares: inputs, workers, progress, manifests, figures."""
