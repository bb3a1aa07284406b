"""What a child process may use: memory, files, no core dumps, low priority."""

import os
import resource


def limit(memory_bytes: int, file_bytes: int) -> None:
    """Set this process's limits; they cannot be raised again without root."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    os.nice(5)
