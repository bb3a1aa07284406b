"""Whole federations on one machine, and baselines outside any federation."""
