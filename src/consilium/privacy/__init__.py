"""Privacy recipes, pure: files in the order in which the data goes."""
