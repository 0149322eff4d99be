"""The baselines: models that live beside nvgbench as anybody's would, using its public names alone."""
