"""What a child process sets for itself."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
from consilium.training.limits import keep_memory
{call}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert bytearray(64 << 20)[-1] == 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_a_round_needed_is_there_for_the_next() -> None:
    def pages(call: str) -> int:
        command = [sys.executable, "-c", FAULTS.format(call=call)]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert pages("keep_memory()") < 100 < pages("")
