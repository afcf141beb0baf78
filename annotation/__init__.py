"""Folders of videos in, folders of results out; no algorithm of its own."""
