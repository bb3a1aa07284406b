"""A mapping, proposed from a hospital's own tables: names, units, codes and distributions. A person confirms it."""
