"""One file per claim; each prints a ratio against a named peer, measured in one run."""
