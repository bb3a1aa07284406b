"""Secure aggregation: how fast masks are laid on one core, and a secure round beside a plain one of the same bytes.

    make bench ARGS="--sizes 0.1 10 100"        (400 takes as many minutes more; --many: 10 and 50 sites)

Masking is measured in processor time of one thread. What shares the core with it, as another thread of the same core
does, still counts, and others only ever add: the aim is of the fastest of many turns. Rounds are those of `round.py`:
shipped processes, started by public commands, default durability; plain and secure runs take turns in one federation.
What a secure round costs beyond the plain one is in the ratio. Ten sites are as many processes, too. Fifty are in one
process: the protocol's own work, by its messages and with files, without network, training and journals. Exit code 1:
an aim of `aims.py` does not hold.
"""

import io
import itertools
import json
import os
import shutil
import statistics
import sys
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

import aims
import place
from round import ROUNDS, SITES, Peak, check, federation, finished, opened, wanted

SIZE, REPEATS, TURNS, STREAMS = 64 << 20, 5, 2, 40
SIZES = (0.1, 10.0)
TEN, TEN_MB = 10, (0.1, 10.0, 100.0)
FIFTY, FIFTY_MB = 50, (0.1, 10.0)
MOST_PATIENTS = 100
SECURE = {"recipe": "secure_sum", "most_patients": MOST_PATIENTS}


class Nothing(io.RawIOBase):
    """A file that takes everything and keeps nothing: the disk is measured by the rounds."""

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data) -> int:
        """Forget it."""
        return len(data)


def speed(size: int, act: Callable[[], object]) -> float:
    """GB per second of processor time of this thread."""
    began = time.thread_time()
    act()
    return size / (time.thread_time() - began) / 1e9


def gigabytes(size: int, act: Callable[[], object]) -> float:
    """The median of a few."""
    return statistics.median(speed(size, act) for _ in range(REPEATS))


def streams() -> dict[str, object]:
    """GB/s per core, by turns: the bare cipher, and one mask added to a vector of integers of each width."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    from consilium.privacy import masks

    zeros, out = bytes(masks.BLOCK), bytearray(masks.BLOCK + 16)
    cipher = Cipher(algorithms.AES(bytes(32)), modes.CTR(bytes(16))).encryptor()
    acts = {"aes": lambda: [cipher.update_into(zeros, out) for _ in range(SIZE // len(zeros))]}
    vectors = {bits: np.zeros(SIZE * 8 // bits, dtype=f"<u{bits // 8}") for bits in (16, 32, 64)}
    for bits, vector in vectors.items():
        acts[f"mask_{bits}"] = partial(masks.add, vector, bytes(32), 1)
    found = [{name: speed(SIZE, act) for name, act in acts.items()} for _ in range(STREAMS)]
    assert all(np.any(vector) for vector in vectors.values())
    return {name: place.spread([one[name] for one in found]) for name in acts}


def cover(folder: Path) -> dict[str, float]:
    """A whole cover of a float32 update for four sites (its own mask, one with each other); and the sum's opening."""
    from consilium.core import state as chain
    from consilium.privacy.layout import Layout

    size = SIZE // place.MODEL_BYTES
    update, study = folder / "update.safetensors", wanted(size, 1, SITES, privacy=SECURE)
    values = np.random.default_rng(1).standard_normal(size, dtype=np.float32)
    with update.open("wb") as file:
        chain.write({"update": values, "weight": np.array([10.0])}, {}, file)
    layout = Layout.of(study, "TRAIN", ("F32", size), {}, SITES)
    layers = [(bytes([number]) * 32, sign) for number, sign in enumerate((1, 1, -1, 1))]
    found = {"masks": len(layers)}
    for name, some in (("cover", layers), ("without_masks", [])):
        found[name] = gigabytes(SIZE, lambda some=some: layout.cover(update, some, Nothing()))
    vector = folder / "vector.safetensors"
    with vector.open("wb") as file:
        layout.cover(update, layers, file)
    uncover = lambda: layout.uncover([vector] * SITES, layers, {}, Nothing())  # noqa: E731
    found["uncover"] = gigabytes(SIZE, uncover)
    return found


def times(events: list[dict]) -> list[float]:
    """Seconds of each round, agreeing on keys (round 0) left out."""
    begun = [one for one in events if one["kind"] == "Opened" and one["body"]["number"] > 0]
    return [after - before for before, after in itertools.pairwise(opened(begun))]


def turn(made, name: str, size: int, rounds: int, privacy: dict, sites: int = SITES) -> list[float]:
    """One run, its mean checked; seconds of its rounds."""
    seed = {"epochs": 1, "learning_rate": 0.5, "seed": zlib.crc32(name.encode()) >> 1}  # another model in each run
    asked = wanted(size, rounds + 1, sites, privacy=privacy, training=seed)
    run = made.start(made.approved(asked.model_copy(update={"name": name})))
    if privacy is SECURE and name.endswith("-1"):  # people compare once per roster
        made.compared(run)
    found = times(finished(made, run, 600))
    check(made, run, size, rounds + 1, sites)
    return found


def rounds(folder: Path, megabytes: float, count: int, sites: int = SITES) -> dict[str, object]:
    """Plain and secure runs of one size by turns; their first rounds, in which processes start, stand apart."""
    size = int(megabytes * place.MB / place.MODEL_BYTES)
    said = {"plain": {"recipe": "plain"}, "secure": SECURE}
    found, first = {kind: [] for kind in said}, {kind: [] for kind in said}
    with federation(folder, sites) as made:
        pids = {"coordinator": made.coordinator.process.pid}
        pids |= {name: hospital.process.pid for name, hospital in made.hospitals.items()}
        peak = Peak(pids)
        for number, kind in itertools.product(range(1, TURNS + 1), said):
            seconds = turn(made, f"{kind}-{number}", size, max(count // TURNS, 1), said[kind], sites)
            first[kind].append(seconds[0])
            found[kind] += seconds[1:]
        most = peak.end()
    shutil.rmtree(folder)
    return {
        "sites": sites, "model_mb": megabytes, **{f"{kind}_s": place.spread(found[kind]) for kind in said},
        "first_s": first, "all_s": found,
        "coordinator_mb": most.pop("coordinator") / place.MB, "agent_mb": max(most.values()) / place.MB,
    }  # fmt: skip


def in_one_process(folder: Path, megabytes: float, sites: int, turns: int = 2) -> dict[str, object]:
    """The secure rounds of many sites, one after another in this thread: processor time of one site, and of the sum.

    A site's is its part of READY, MASK (its file of integers under masks, written), CONFIRM and UNMASK; the sum's is to
    find the keys that open it, to add all files and to take off the masks. One tenth of the sites leaves after READY.
    """
    from consilium.core import state as chain
    from consilium.privacy import opening, secagg
    from consilium.privacy.layout import Layout
    from property.rosters import paired, seats

    size = int(megabytes * place.MB / place.MODEL_BYTES)
    study = wanted(size, 1, sites, privacy=SECURE)
    layout = Layout.of(study, "TRAIN", ("F32", size), {}, sites)
    clock, (roster, chains) = time.thread_time, paired(sites)
    folder.mkdir()
    site_s, sum_s = [], []
    for number in range(1, turns + 1):
        began = clock()
        seated = seats(layout, roster, chains, number)
        each = (clock() - began) / sites
        stay, masked, files, exact = roster.sites[sites // 10 :], {}, [], np.zeros(size)
        spent = dict.fromkeys(stay, each)
        for at, site in enumerate(stay):
            values, update = np.random.default_rng(at).standard_normal(size, dtype=np.float32), folder / "update"
            exact += values
            with update.open("wb") as file:
                chain.write({"update": values, "weight": np.array([10.0])}, {}, file)
            began = clock()
            seated[site], boxes = secagg.mask(seated[site], seated[site].active)
            files.append(folder / site)
            with files[-1].open("wb") as file:
                found, _ = layout.cover(update, secagg.layers(seated[site]), file)
            masked[site] = secagg.masked(seated[site], found, boxes)
            spent[site] += clock() - began
        confirms, told = [], []
        for site in stay:
            began = clock()
            seated[site], one = secagg.confirm(seated[site], masked, masked[site])
            confirms.append(one)
            spent[site] += clock() - began
        for site in stay:
            began = clock()
            told.append(secagg.unmask(seated[site], masked, confirms)[1])
            spent[site] += clock() - began
        began = clock()
        keys = opening.recover(seated[stay[0]].open, seated[stay[0]].active, masked, told)
        with (folder / "sum").open("wb") as file:
            layout.uncover(files, list(opening.streams(keys)), {}, file)
        sum_s.append(clock() - began)
        rounding = len(stay) * 0.5 / layout.encodings["update"].scale
        apart = np.abs(chain.read(folder / "sum").arrays["update"] - exact)
        assert np.all(apart <= rounding + 1e-5 * np.abs(exact)), "the sum is another one"
        site_s += spent.values()
    shutil.rmtree(folder)
    return {
        "sites": sites, "model_mb": megabytes, "lost": sites // 10, "site_s": place.spread(site_s),
        "sum_s": place.spread(sum_s),
    }  # fmt: skip


def tell(found: dict) -> None:
    """One line."""
    plain, secure = found["plain_s"], found["secure_s"]
    print(
        f"{found['sites']} sites {found['model_mb']:>6g} MB"
        f"   plain {plain['median']:.3f} s [{plain['least']:.3f}-{plain['most']:.3f}]"
        f"   secure {secure['median']:.3f} s [{secure['least']:.3f}-{secure['most']:.3f}]"
        f"   ({secure['median'] / plain['median']:.2f}x)   coordinator {found['coordinator_mb']:.0f} MB"
        f"   agent {found['agent_mb']:.0f} MB",
        flush=True,
    )


def many(folder: Path, sizes: list[float] | None) -> tuple[list[dict], list[dict]]:
    """Ten sites as processes, and fifty in one; of the usual sizes those that were asked for."""
    processes, one_process = [], []
    for megabytes in (size for size in TEN_MB if sizes is None or size in sizes):
        processes.append(rounds(folder / f"ten-{megabytes:g}", megabytes, 4, TEN))
        tell(processes[-1])
    for megabytes in (size for size in FIFTY_MB if sizes is None or size in sizes):
        found = in_one_process(folder / f"fifty-{megabytes:g}", megabytes, FIFTY)
        one_process.append(found)
        of_site, of_sum = found["site_s"]["median"], found["sum_s"]["median"]
        print(f"50 sites in one process, {megabytes:g} MB: a site {of_site:.3f} s, the sum {of_sum:.3f} s", flush=True)
    return processes, one_process


def main() -> None:
    """Measure, print, keep."""
    ask = place.arguments(__doc__)
    folder, load = place.enter(), os.getloadavg()[0]
    stream, covered = streams(), cover(folder)
    masking = {**stream, **covered}
    told = {name: [round(of[each], 2) for each in ("median", "least", "most")] for name, of in stream.items()}
    print("GB/s per core:", json.dumps(told | {name: round(of, 2) for name, of in covered.items()}), flush=True)
    sizes = []
    for megabytes in ask.sizes or SIZES:
        count = ask.rounds or next(number for size, number in ROUNDS.items() if megabytes <= size or size == 400.0)
        sizes.append(rounds(folder / f"{megabytes:g}", megabytes, count))
        tell(sizes[-1])
    found = {"machine": place.machine(), "load": load, "sites": SITES, "masking": masking, "sizes": sizes}
    if ask.many:
        found["many"], found["one_process"] = many(folder, ask.sizes)
    place.keep(ask.json and ask.json.resolve(), "secure", found)
    found_aims = [*aims.of_masking(masking), *(aim for aim in map(aims.of_secure, sizes) if aim is not None)]
    sys.exit(aims.verdict(found_aims))


if __name__ == "__main__":
    main()
