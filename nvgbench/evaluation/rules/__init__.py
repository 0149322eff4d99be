"""Rules of other evaluators, each in a file of its own; nvgbench's own are in `nvgbench.evaluation.scores`."""
