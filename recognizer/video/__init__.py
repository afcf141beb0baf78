"""Video files: frames with their times and an account of what is missing; H.264 writing."""
