"""Where a benchmark runs: an environment with the plug-in of `trainer.py`, the machine's name, and what was found."""

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import venv
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
MARK = "CONSILIUM_BENCH_PLACE"
TESTED = ("consilium", "granian", "numpy", "cryptography", "urllib3", "sqlalchemy", "starlette")
MODEL_BYTES = 4
TRAINING = {
    "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1",
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str((1 << 31) - 1),
}  # fmt: skip
"""As training has it at a hospital (`site/child.py`, `training/limits.py`): one core, and freed memory is kept."""
MB = 1_000_000


def enter() -> Path:
    """A temporary folder; this program is started again inside an environment that stands there, unless it runs there.

    The training process at a site sees no PYTHONPATH, so the plug-in has to be installed as anybody's would be: into
    an environment of its own, which finds everything else in the one that started this program.
    """
    if MARK in os.environ:
        sys.path.insert(0, str(HERE.parent / "tests"))
        return Path(os.environ[MARK])
    folder = Path(tempfile.mkdtemp(prefix="consilium-bench-", dir=os.environ.get("CONSILIUM_BENCH_FOLDER")))
    here, there = Path(sysconfig.get_path("purelib")), folder / "environment"
    venv.create(there, symlinks=True)
    python = there / "bin" / "python"
    site = next((there / "lib").glob("python*/site-packages"))
    (site / "outer.pth").write_text(f"import site; site.addsitedir({str(here)!r})\n")
    shutil.copy(HERE / "trainer.py", site / "consilium_bench_trainer.py")
    about = site / "consilium_bench_trainer-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: consilium-bench-trainer\nVersion: 1\n")
    point = "consilium_bench_trainer:AddConstant"
    (about / "entry_points.txt").write_text(f"[consilium.trainers]\nadd-constant = {point}\n")
    command = there / "bin" / "consilium"
    command.write_text(f"#!{python}\nimport sys\nfrom consilium.console.cli.app import main\nsys.exit(main())\n")
    command.chmod(0o755)
    try:
        done = subprocess.run([python, *sys.argv], env=os.environ | {MARK: str(folder)}, check=False)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sys.exit(done.returncode)


def as_training() -> None:
    """This program is started again as training is at a hospital; processes that it starts inherit that."""
    if any(os.environ.get(name) != value for name, value in TRAINING.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | TRAINING)


def peer(name: str) -> Path:
    """Python of an environment with what `NAME.txt` names, made where it is not there: peers need other versions."""
    folder = HERE.parent / f".venv-{name}"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", HERE / f"{name}.txt"], check=True)
        (folder / "ready").touch()
    return python


def machine() -> dict[str, object]:
    """What ran this, for whoever compares."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": cpu, "cores": os.cpu_count(), "memory_gb": round(memory / 1e9), "system": platform.system(),
        "python": platform.python_version(), "at": datetime.now(UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in TESTED},
    }  # fmt: skip


def spread(values: list[float]) -> dict[str, object]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values), "n": len(values)}


def keep(path: Path | None, name: str, found: dict[str, object]) -> None:
    """Put one benchmark's results into the JSON file of all."""
    if path is None:
        return
    known = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(known | {name: found}, indent=1, sort_keys=True) + "\n")


def memory(pid: int) -> int:
    """Anonymous memory of a process in bytes, now."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def arguments(about: str) -> argparse.Namespace:
    """What may be asked of a benchmark; each of them knows all, so that `make bench ARGS=...` serves both."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", help="round.py, secure.py: models in MB, unless the usual")
    parser.add_argument(
        "--rounds", type=int, help="round.py, secure.py: rounds that count; chosen by size unless given"
    )
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 16, 64], help="scale.py: numbers of sites")
    parser.add_argument("--megabytes", type=float, default=100.0, help="scale.py: model in MB")
    parser.add_argument(
        "--models", nargs="+", help="dp.py: those to measure anew, such as linear, mlp or cnn; all unless given"
    )
    parser.add_argument(
        "--many", action="store_true", help="secure.py: 10 sites to 100 MB and 50 to 10 MB, too; a quarter of an hour"
    )
    parser.add_argument("--json", type=Path, help="file that keeps the results; `pages.py` makes a page of it")
    return parser.parse_args()
