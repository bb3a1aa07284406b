"""The program of a site's child process: `python -m consilium.training.child`. One line of JSON in, one out.

Commands: ``load`` {plan, initial, table}, ``train`` {state, round, out}, ``evaluate`` {state, out}. What goes back is
``{"ok": true}`` or a safe error {"code", "message", "remedy"}: never a value of a patient, never a traceback.
"""

import json
import sys
from pathlib import Path
from typing import Any

from consilium.core import state as chain
from consilium.core.errors import ConsiliumError
from consilium.core.update import Update
from consilium.training.limits import limit
from consilium.training.work import Work

MEMORY_BYTES, FILE_BYTES = 64 << 30, 64 << 30


def serve(memory_bytes: int = MEMORY_BYTES, file_bytes: int = FILE_BYTES) -> None:
    """Answer commands until stdin ends, as it does when the agent dies."""
    limit(memory_bytes, file_bytes)
    work: Work | None = None
    for line in sys.stdin:
        try:
            ask = json.loads(line)
            if ask["do"] == "load":
                work = Work.load(Path(ask["plan"]), Path(ask["initial"]), Path(ask["table"]))
                told: dict[str, Any] = {"ok": True}
            else:
                assert work is not None
                told = _act(work, ask)
        except ConsiliumError as error:
            told = {"code": error.code, "message": error.message, "remedy": error.remedy}
        except MemoryError:
            told = _failed("training needs more memory than the site allows", "lower training.batch_size")
        except Exception as error:
            told = _failed(
                f"training failed ({type(error).__name__})", "run `consilium site check`; the cause is local"
            )
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


def _failed(message: str, remedy: str) -> dict[str, Any]:
    return {"code": "training-failed", "message": message, "remedy": remedy}


def _act(work: Work, ask: dict[str, Any]) -> dict[str, Any]:
    state, out = Path(ask["state"]), Path(ask["out"])
    update: Update = work.train(state, int(ask["round"])) if ask["do"] == "train" else work.evaluate(state)
    with out.open("wb") as file:
        digest, size = chain.write(update.segments, {}, file)
    return {"ok": True, "digest": digest, "size": size}


if __name__ == "__main__":
    serve(*(int(value) for value in sys.argv[1:3]))
