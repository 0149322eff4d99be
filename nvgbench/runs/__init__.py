"""Runs on disk: their folders, checkpoints, logs and trained models."""
