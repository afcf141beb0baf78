"""Files of our own formats: poses, pickles read safely, tables."""
