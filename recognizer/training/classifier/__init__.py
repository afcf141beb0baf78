"""Train, test and cross-validate classifiers of actions."""
