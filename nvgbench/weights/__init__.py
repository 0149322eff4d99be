"""Weights of other projects: downloads, import as a run, export in the original layout."""
