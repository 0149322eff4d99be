"""The configuration of a run: its schema, presets, overrides and files."""
