"""Train and test classifiers and pose networks."""
