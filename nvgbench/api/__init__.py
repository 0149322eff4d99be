"""The public face: what `import nvgbench` offers, one file per subject. The package's ``__init__`` imports it lazily."""
