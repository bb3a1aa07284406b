"""Trainers, run in the site's child process only."""
