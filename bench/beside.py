"""Plain and secure rounds of ours beside those of Flower, of the same number of sites and bytes, in one run.

    make bench-beside                        (or: .venv/bin/python bench/beside.py --json bench/results.json)

Ours: the shipped coordinator and agents, a process each, over TLS, with default durability. Flower's: SecAgg+ in its
simulator, which has neither network nor disk nor TLS between sites; in its deployment several seconds of waiting come
with each phase on top. Both sides share this machine's cores among all sites, so a round of many is longer here than
between hospitals. Each side's mean is checked.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path

import place
from round import federation
from secure import SECURE, turn

CASES = {(4, 0.1): 10, (4, 40.0): 3, (16, 0.1): 5, (16, 40.0): 2}
"""Rounds that count, by sites and megabytes."""
LIMIT_S = 1200
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def ours(folder: Path, sites: int, size: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of rounds of the shipped processes; the first of a run, in which they start, is left out."""
    with federation(folder, sites) as made:
        asked = {"plain": {"recipe": "plain"}, "secure": SECURE}
        found = {kind: turn(made, f"{kind}-1", size, rounds, privacy, sites)[1:] for kind, privacy in asked.items()}
    shutil.rmtree(folder)
    return found


def flower(sites: int, megabytes: float, rounds: int) -> dict[str, dict]:
    """What Flower's half says of both kinds of round."""
    found = {}
    for kind in ("plain", "secure"):
        words = [place.peer("flower"), place.HERE / "secure_peer.py", sites, megabytes, rounds, kind]
        said = subprocess.run(
            list(map(str, words)), env=os.environ | QUIET, capture_output=True, text=True, timeout=LIMIT_S, check=True
        )
        found[kind] = json.loads(said.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, print, keep."""
    ask = place.arguments(__doc__)
    folder, load, cases = place.enter(), os.getloadavg()[0], []
    for (sites, megabytes), rounds in CASES.items():
        mine = ours(folder / f"{sites}-{megabytes:g}", sites, int(megabytes * place.MB / place.MODEL_BYTES), rounds)
        theirs = flower(sites, megabytes, rounds)
        cases.append({
            "sites": sites, "model_mb": megabytes, "flower_error": theirs["secure"]["error"],
            "ours_s": {kind: place.spread(seconds) for kind, seconds in mine.items()},
            "flower_s": {kind: place.spread(told["seconds"]) for kind, told in theirs.items()},
        })  # fmt: skip
        medians = {
            f"{who} {kind}": cases[-1][f"{who}_s"][kind]["median"] for who in ("ours", "flower") for kind in mine
        }
        print(
            f"{sites:>3} sites {megabytes:>5g} MB",
            {name: round(value, 3) for name, value in medians.items()},
            flush=True,
        )
    found = {"machine": place.machine(), "load": load, "cases": cases, "flower": "1.42.0"}
    place.keep(ask.json and ask.json.resolve(), "beside", found)


if __name__ == "__main__":
    main()
