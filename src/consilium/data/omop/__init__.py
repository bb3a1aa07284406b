"""A hospital's OMOP CDM, 5.3 or 5.4, on DuckDB or PostgreSQL, as a table of one row per patient."""
