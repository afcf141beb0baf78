"""Offline analysis of videos: records, overlays, summary and evaluation."""
