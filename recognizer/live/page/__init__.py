"""The page of live detection: cameras, events, reviews, users, and health for monitoring."""
