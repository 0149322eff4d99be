"""Weights that the original projects publish: fetched, read, turned into runs, and written back in the original layout."""
