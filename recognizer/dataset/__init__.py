"""Tracked people and a label become a sample; samples become mmaction2's pickles."""
