"""Train, check and compare pose networks."""
