"""Simulated rounds of a tiny logistic model, at 100, 1,000 and 10,000 sites, beside pfl and Flower's simulator.

    make bench-simulate                      (or: .venv/bin/python bench/simulate.py --json bench/results.json)

13 features, 50 training patients a site, one step of all of them, all sites in each round: the same patients and the
same step for everybody (`simulate_case.py`). Ours goes through the round machine, writes each state to disk and hashes
it, and in every round adds up what five more patients of each site say of the model (figures are made of such sums
where somebody looks); pfl and Flower only train. pfl has its model in numpy; Flower runs on Ray. Each peer has an
environment of its own, and its model is compared with ours. Ours, with all sites at once, and pfl take turns; Flower,
and ours one site after the other, have one turn each. At 10,000 sites only ours is measured.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import aims
import place
from consilium.api import freeze
from consilium.core import state as chain
from consilium.core.study import Plan, Study
from consilium.simulation.conditions import Conditions
from consilium.simulation.executors import Inline
from consilium.simulation.patients import Patients, Sites
from consilium.simulation.rounds import Simulation
from consilium.simulation.vectorised import Vectorised
from simulate_case import FEATURES, RATE, ROWS, patients

CASES = {100: 40, 1000: 20, 10000: 10}
"""Rounds that count in a turn, by number of sites."""
BESIDE = {100: 20, 1000: 5}
"""The same of pfl."""
OTHERS = {"flower": {100: 5, 1000: 1}, "inline": {100: 5, 1000: 5}}
"""The same of what has one turn alone: ours is faster by far, or it is ours."""
TURNS, HELD_OUT = 3, 5
LIMIT_S = 1200
EXECUTORS = {"vectorised": Vectorised, "inline": Inline}
QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def study(rounds: int) -> Study:
    """The case as a study."""
    number = {"type": "number", "unit": "1", "range": [-1, 1], "missing": "forbidden"}
    return Study.model_validate({
        "consilium": 1, "name": "many", "title": "Many sites", "rounds": rounds, "quorum": 1, "min_patients": 1,
        "purpose": {"code": "research", "text": "a benchmark", "requester": "the benchmark"},
        "contract": {
            "id": "many", "label": {"id": "y", "meaning": "label", "type": "binary"},
            "features": [{"id": f"x{index:02d}", "meaning": "feature", **number} for index in range(FEATURES)],
        },
        "model": {"kind": "logistic"}, "training": {"learning_rate": RATE}, "privacy": {"recipe": "plain"},
    })  # fmt: skip


def ours(executor: str, sites: int, rounds: int) -> dict[str, object]:
    """Seconds, and the processor's, of rounds but the first; the last model; peak memory without and with the run."""
    known = [patients(site) for site in range(sites)]
    size = ROWS + HELD_OUT
    x, y = (np.concatenate([np.concatenate([one[at], one[at][:HELD_OUT]]) for one in known]) for at in (0, 1))
    columns = {f"x{index:02d}": np.ascontiguousarray(x[:, index]) for index in range(FEATURES)}
    held_out = np.tile(np.arange(size) >= ROWS, sites)
    everybody = Patients(columns, y, held_out, np.zeros(len(y), dtype=np.int64), ("all",))
    plan, weights = freeze(Plan.load(Plan.of(study(rounds + 1)).payload).study)
    rows = {f"site-{site:05d}": np.arange(site * size, (site + 1) * size) for site in range(sites)}
    hospitals = Sites(plan, weights, everybody, rows)
    made = EXECUTORS[executor](hospitals)
    told, before = [], _peak()
    with tempfile.TemporaryDirectory() as folder:
        run = Simulation(
            plan, weights, tuple(rows), made, Path(folder), "many-1", os.urandom, hospitals.lacks, Conditions(),
            lambda round_: told.append((round_, time.process_time())),
        )  # fmt: skip
        model = np.array(chain.read(run.run().state).arrays["model"])
    training = [(round_.seconds, at) for round_, at in told if round_.kind == "TRAIN"]
    return {
        "seconds": [seconds for seconds, _ in training[1:]], "processor": np.diff([at for _, at in training]).tolist(),
        "model": model.tolist(), "mb_before": before, "mb": _peak(),
    }  # fmt: skip


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / place.MB


def said(*words: object) -> dict:
    """What a program says in its last line."""
    done = subprocess.run(
        list(map(str, words)), env=os.environ | QUIET, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def case(sites: int, rounds: int) -> dict[str, object]:
    """One number of sites: ours, and pfl's by turns where it is measured; then the others, once."""
    begun = os.getloadavg()[0]
    mine, theirs, models = [], [], {}
    for _ in range(TURNS):
        mine.append(said(sys.executable, __file__, "--one", "vectorised", sites, rounds))
        if sites in BESIDE:
            theirs.append(said(place.peer("pfl"), place.HERE / "pfl_peer.py", sites, BESIDE[sites]))
    found: dict[str, object] = {
        "sites": sites, "load": begun, "mb": max(one["mb"] for one in mine), "mb_before": mine[0]["mb_before"],
    }  # fmt: skip
    for name, turns in (("ours", mine), ("pfl", theirs)):
        for what, unit in (("seconds", "s"), ("processor", "processor_s")) if turns else ():
            found[f"{name}_{unit}"] = place.spread([value for one in turns for value in one[what]])
    for name, counts in OTHERS.items():
        if sites in counts:
            peer = (place.peer(name), place.HERE / f"{name}_peer.py") if name == "flower" else ()
            program = peer or (sys.executable, __file__, "--one", name)
            once = said(*program, sites, counts[sites])
            found[f"{name}_s"], models[name] = place.spread(once["seconds"]), (counts[sites], once["model"])
    models |= {"pfl": (BESIDE[sites], theirs[0]["model"])} if theirs else {}
    for name, (count, model) in models.items():
        again = said(sys.executable, __file__, "--one", "vectorised", sites, count)
        found[f"{name}_apart"] = float(np.max(np.abs(np.subtract(model, again["model"]))))
    return found


def main() -> int:
    """Measure, print, keep; 1, where ours is not so much faster at 1,000 sites."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=3, metavar=("EXECUTOR", "SITES", "ROUNDS"), help="ours alone, as JSON")
    parser.add_argument("--json", type=Path, help="file that keeps the results; `pages.py` makes a page of it")
    ask = parser.parse_args()
    if ask.one:
        print(json.dumps(ours(ask.one[0], int(ask.one[1]), int(ask.one[2]))))
        return 0
    load, cases = os.getloadavg()[0], []
    for sites, rounds in CASES.items():
        cases.append(case(sites, rounds))
        print(
            {name: told["median"] if isinstance(told, dict) else told for name, told in cases[-1].items()}, flush=True
        )
    found = {"machine": place.machine(), "load": load, "cases": cases, "pfl": "0.6.0", "flower": "1.42.0"}
    place.keep(ask.json, "simulate", found)
    middle = next(one for one in cases if one["sites"] == aims.FASTER_AT)
    faster = min(middle[name]["median"] for name in ("pfl_s", "flower_s")) / middle["ours_s"]["median"]
    print(f"1,000 sites: {faster:.0f} times as fast as the faster peer; {aims.FASTER:.0f} wanted", flush=True)
    return int(faster < aims.FASTER)


if __name__ == "__main__":
    sys.exit(main())
