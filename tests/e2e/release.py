"""`consilium` as a release of another protocol would be: `python release.py SPEAKS UNDERSTOOD WORD...`.

It is this release in every line but the two that say which protocol it speaks and which ones it understands.
"""

import importlib.util
import sys
from pathlib import Path

NAME = "consilium.wire.messages"


def become(speaks: str, understood: str) -> None:
    """Import the module of messages with other versions, before anybody else does."""
    spec = importlib.util.find_spec(NAME)
    assert spec is not None and spec.origin is not None
    text = Path(spec.origin).read_text()
    for line, other in (("PROTOCOL = 2", f"PROTOCOL = {speaks}"), ("PROTOCOLS = (2,)", f"PROTOCOLS = ({understood},)")):
        assert text.count(f"\n{line}\n") == 1, f"{NAME} has no line {line}"
        text = text.replace(f"\n{line}\n", f"\n{other}\n")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    exec(compile(text, spec.origin, "exec"), module.__dict__)


if __name__ == "__main__":
    become(sys.argv[1], sys.argv[2])
    sys.argv = ["consilium", *sys.argv[3:]]
    from consilium.console.cli.app import main

    main()
