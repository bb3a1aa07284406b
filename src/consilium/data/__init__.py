"""The hospital's tables, read at the site only."""
