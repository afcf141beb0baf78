"""Poses -> poses with ids -> tracks."""
