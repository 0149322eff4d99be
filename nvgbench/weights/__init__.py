"""Weights from elsewhere: downloads, files of the original projects, imports as runs, exports in the original layout."""
