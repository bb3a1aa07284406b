"""A plug-in of an outsider: a trainer whose model is as wide as a test wants, installed as anybody's would be.

The training process at a site sees no PYTHONPATH, so that the plug-in stands in an environment of its own, which finds
everything else in the one that runs the tests.
"""

import sysconfig
import venv
from pathlib import Path
from typing import Any

import numpy as np

from consilium.core.ids import digest
from consilium.core.study import Plan
from consilium.core.tensors import to_safetensors
from e2e.coordinator import Party
from e2e.federation import study

TRAINER = '''
class Wide:
    """Adds one to every number."""

    def initial(self, study, names):
        raise NotImplementedError

    def train(self, study, model, x, y, objective, number):
        return {"vector": model["vector"] + 1}

    def predict(self, study, model, x):
        return x[:, 0] * 0 + 0.5
'''


def environment(folder: Path) -> Path:
    """Make the environment; its `consilium` command."""
    venv.create(folder, symlinks=True)
    packages = next((folder / "lib").glob("python*/site-packages"))
    outer = sysconfig.get_path("purelib")
    (packages / "outer.pth").write_text(f"import site; site.addsitedir({outer!r})\n")
    (packages / "wide.py").write_text(TRAINER)
    about = packages / "wide-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: wide\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[consilium.trainers]\nwide = wide:Wide\n")
    command = folder / "bin" / "consilium"
    python = folder / "bin" / "python"
    command.write_text(f"#!{python}\nimport sys\nfrom consilium.console.cli.app import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return command


def submit(owner: Party, name: str, size: int, seed: int, **changes: Any) -> Plan:
    """Submit a study whose model is `size` numbers of 4 bytes, at random, so that nothing on the way shrinks them."""
    vector = np.random.default_rng(seed).standard_normal(size, dtype=np.float32)
    weights = to_safetensors({"vector": vector})
    values = {
        "model": {"kind": "wide", "start": "given", "initial": digest(weights)},
        "rounds": 1,
        "quorum": 1,
        **changes,
    }
    plan = Plan.of(study(name, **values))
    owner.send_blob(weights)
    owner.connection.post("/v1/studies", {"plan": plan.payload.decode()})
    return plan
