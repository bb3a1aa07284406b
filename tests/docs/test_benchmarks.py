"""The page of the benchmarks is that of what was kept; an aim that is missed is said, and ends in an exit code."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SMALLEST = (
    "flamby_heart.py",
    "heart.py",
    "heterogeneity.py --rounds 1 --degrees 0 --seeds 1 --strategies fedavg --workers 1",
    "simulate.py --one vectorised 4 2",
    "round.py --sizes 1 --rounds 1",
    "secure.py --sizes 1 --rounds 1",
    "scale.py --sites 4 --megabytes 1",
    "beside.py --help",
    "dp.py --help",
    "dp_accuracy.py --help",
    "fhir.py --help",
)
"""Of each that needs no environment of a peer; of the others, what shows that they start."""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The modules of `bench/` that measure nothing: `aims` and `pages`."""
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import pages

    return pages


def a_round(megabytes: float, round_s: float) -> dict[str, Any]:
    """Measured beside a floor of 10 ms, and a durable one of 1 s."""
    return {
        "model_mb": megabytes, "round_s": {"median": round_s}, "floor_s": {"median": 0.01},
        "durable_floor_s": {"median": 1.0},
    }  # fmt: skip


def test_the_page_is_up_to_date(bench: Any) -> None:
    kept = json.loads((ROOT / "bench" / "results.json").read_text())
    assert bench.PAGE.read_text() == bench.page(kept), "run `python bench/pages.py bench/results.json`"


@pytest.mark.parametrize(
    ("megabytes", "round_s", "holds"),
    [(0.1, 0.059, True), (0.1, 0.061, False), (100, 1.99, True), (100, 2.01, False), (400, 2.01, False)],
)
def test_a_missed_aim_is_said_and_is_an_exit_code(
    bench: Any, capsys: pytest.CaptureFixture[str], megabytes: float, round_s: float, holds: bool
) -> None:
    aim = bench.aims.of_round(a_round(megabytes, round_s))
    assert bench.aims.verdict([aim]) == bench.aims.verdict([aim, aim]) == (0 if holds else 1)
    assert ("NOT HOLD" in capsys.readouterr().out, "missed" in aim.cell) == (not holds, not holds)


def test_a_size_in_between_has_no_aim(bench: Any) -> None:
    assert bench.aims.of_round(a_round(10, 99)) is None


@pytest.mark.parametrize(("megabytes", "used", "holds"), [(100, 319, True), (100, 321, False), (10, 213, False)])
def test_the_coordinator_has_memory_for_about_one_model(bench: Any, megabytes: float, used: float, holds: bool) -> None:
    aim = bench.aims.of_scale({"sites": 64, "model_mb": megabytes, "coordinator_mb": used})
    assert aim.holds is holds and bench.aims.verdict([aim]) == (0 if holds else 1)


@pytest.mark.parametrize(
    ("megabytes", "plain_s", "secure_s", "holds"),
    [(0.1, 0.01, 0.149, True), (0.1, 1, 0.151, False), (100, 1, 1.99, True), (100, 1, 2.01, False)],
)
def test_secure_rounds_have_aims_of_their_own(
    bench: Any, megabytes: float, plain_s: float, secure_s: float, holds: bool
) -> None:
    one = {"model_mb": megabytes, "plain_s": {"median": plain_s}, "secure_s": {"median": secure_s}}
    assert bench.aims.verdict([bench.aims.of_secure(one)]) == (0 if holds else 1)
    assert bench.aims.of_secure({**one, "model_mb": 10}) is None


@pytest.mark.parametrize(("slowest", "holds"), [(3.01, True), (2.99, False)])
def test_masks_are_laid_at_least_so_fast(
    bench: Any, capsys: pytest.CaptureFixture[str], slowest: float, holds: bool
) -> None:
    found = {"mask_16": 9, "mask_32": slowest, "mask_64": 9}
    some = bench.aims.of_masking({name: {"median": 0, "most": most} for name, most in found.items()})
    assert bench.aims.verdict(some) == (0 if holds else 1)
    assert "at least 3 GB/s wanted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("times", "products", "holds"),
    [(5.01, 900, True), (4.99, 900, False), (2, 499, None), (1.31, None, True), (1.29, None, False)],
)
def test_private_steps_are_held_to_what_their_products_allow(
    bench: Any, times: float, products: float | None, holds: bool | None
) -> None:
    one = {"model": "m", "products": products, "fastest": "ew", "per_s": {"ew": 100}, "times": {"median": times}}
    aim = bench.aims.of_dp(one)
    assert aim is None if holds is None else bench.aims.verdict([aim]) == (0 if holds else 1)


@pytest.mark.long
@pytest.mark.parametrize("words", SMALLEST)
def test_each_runs_its_smallest_case(words: str) -> None:
    name, *options = words.split()
    done = subprocess.run(
        [sys.executable, ROOT / "bench" / name, *options], capture_output=True, text=True, check=False
    )
    missed = done.returncode == 1 and "DOES NOT HOLD" in done.stdout and "Traceback" not in done.stderr
    assert done.returncode == 0 or missed, done.stdout + done.stderr  # how fast this machine is now, is no matter here
