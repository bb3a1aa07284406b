"""Example studies and mappings, as package data."""
