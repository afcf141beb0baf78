"""What ships beside the library: footage's poses, models, and how they were made."""
