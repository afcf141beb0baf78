"""Measurements that only a GPU can make, cut to fit a quarter of an hour of one.

``pack`` gathers what travels, ``run`` runs the parts within a time budget, one process each.
"""
