"""Bisection: which option makes a model's answers wrong, found on servers of our own."""
