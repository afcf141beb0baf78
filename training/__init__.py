"""Training and measuring of the classifiers: files and reports, no algorithm of its own."""
