"""Documents made from facts, pure: the report of a run, as a page, as JSON and as data frames."""
