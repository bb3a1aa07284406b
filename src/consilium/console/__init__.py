"""Consoles: what people use. They talk to the coordinator over its HTTP API, like anyone else."""
