"""Experiments: one script each. `python -m experiments.adding --help` teaches the rest."""
