"""Where the tests write: in memory, where there is room and programs may begin there, else where they would by default.

They write thousands of small files, and wait for the disk after each: it is a third of their time, and what a disk does
at a power cut is not among what they can see. Those that measure time stay on the disk.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

MEMORY = Path("/dev/shm")
ROOM = 4 << 30


def made(place: Path | None) -> Path:
    """A fresh folder, in which other accounts may reach what is theirs (PostgreSQL has its own). Its name is short, for
    the path of a socket may be of a hundred signs.
    """
    folder = Path(tempfile.mkdtemp(prefix="ct-", dir=place))
    folder.chmod(0o711)
    return folder


def main() -> None:
    """Print it; whoever asked removes it."""
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        folder = made(MEMORY)
        program = folder / "begins"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o700)
        try:
            subprocess.run([program], check=True)
        except OSError:
            shutil.rmtree(folder)
        else:
            program.unlink()
            print(folder)
            return
    print(made(None))


if __name__ == "__main__":
    main()
