"""Strategies and metrics, pure: one file is one paper, site half and coordinator half together."""
