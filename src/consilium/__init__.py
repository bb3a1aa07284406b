"""Consilium: hospitals train clinical models together, and no patient record leaves its hospital."""

__version__ = "0.1.0"
