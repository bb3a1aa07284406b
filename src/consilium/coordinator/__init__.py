"""The coordinator: it sees contributions and sums, and holds no code that could read a patient record."""
