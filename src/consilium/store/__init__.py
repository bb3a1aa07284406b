"""The coordinator's store: SQLite or PostgreSQL, and blobs by digest."""
