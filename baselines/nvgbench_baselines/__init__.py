"""The baselines VAR and AR, registered like third-party families: they use public names of nvgbench only."""
