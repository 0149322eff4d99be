"""Honest measurement of structured image generators: NVG beside VAR and autoregressive baselines."""

__version__ = "0.1.0"
