# %% [markdown]
# # Chest X-rays: a small convolutional network
#
# Three hospitals train one network that tells pneumonia on a child's chest X-ray. Their scanners differ in contrast,
# and in one hospital two in three images show pneumonia, in another one in three.
#
# The images are real: PneumoniaMNIST (MedMNIST, CC BY 4.0), in 28 x 28 grey values, of one hospital in truth; who has
# which was made up. `CONSILIUM_DATA` names the folder in which `medmnist` lies; it does not come with Consilium. Needs
# the extra `torch`.

# %%
import os
from pathlib import Path

import numpy as np

from consilium import notebook

DATA = Path(os.environ.get("CONSILIUM_DATA", "../shared/data")) / "medmnist"
if not DATA.is_dir():
    raise SystemExit(f"skipped: {DATA} is not here")
with np.load(DATA / "pneumoniamnist_28_reconstructed.npz") as found:
    images, labels = found["train_images"].astype(float), found["train_labels"].ravel()

# %% [markdown]
# In a hospital, images would come [from a PACS](../how-to/dicom.md). Here they stand in tables, one grey value per
# column, and to be quick each is made half as wide and high, by the mean of four neighbours.

# %%
SIZE = 14
PIXELS = [f"pixel_{place}" for place in range(SIZE * SIZE)]
small = images.reshape(-1, SIZE, 2, SIZE, 2).mean(axis=(2, 4))
chance = np.random.default_rng(1)
sick, well = (list(chance.permutation(np.flatnonzero(labels == label))) for label in (1, 0))
tables = {}
for hospital, share, contrast in (("north", 0.5, 1.0), ("south", 0.35, 0.8), ("east", 0.65, 1.2)):
    ill = round(300 * share)
    rows = [sick.pop() for _ in range(ill)] + [well.pop() for _ in range(300 - ill)]
    seen = np.clip((small[rows] - 128) * contrast + 128, 0, 255).round().reshape(300, -1)
    tables[hospital] = {**dict(zip(PIXELS, seen.T, strict=True)), "pneumonia": labels[rows]}
    print(f"{hospital:5} 300 images, {ill} with pneumonia, grey values {seen.mean():.0f} ± {seen.std():.0f}")

# %% [markdown]
# ## The study
#
# `cnn` is in [the catalogue](../reference/architectures.md): convolutions with group normalisation, then dense layers.

# %%
pixel = {"type": "number", "unit": "1", "range": [0, 255], "missing": "forbidden"}
study = notebook.load(
    {
        "consilium": 1,
        "name": "chest-x-rays",
        "title": "Pneumonia on chest X-rays",
        "purpose": {"code": "research", "text": "Tell pneumonia on a chest X-ray.", "requester": "Example group"},
        "contract": {
            "id": "chest-x-rays",
            "features": [{"id": name, "meaning": f"grey value: {name}", **pixel} for name in PIXELS],
            "label": {"id": "pneumonia", "meaning": "pneumonia, by two radiologists", "type": "binary"},
        },
        "model": {
            "kind": "torch",
            "architecture": "cnn",
            "options": {"shape": [1, SIZE, SIZE], "channels": [8, 16], "hidden": [16]},
        },
        "training": {"epochs": 2, "batch_size": 16, "learning_rate": 0.05},
        "privacy": {"recipe": "secure_sum"},
        "rounds": 12,
        "quorum": 3,
    }
)
simulated = notebook.simulate(study, tables)

# %%
for told in simulated.found.rounds[::3]:
    auroc, brier = (told.figures[name]["value"] for name in ("auroc", "brier"))
    print(f"after {told.number - 1:2} rounds: AUROC {auroc:.2f}, Brier score {brier:.2f}")
for site, figures in simulated.figures["sites"].items():
    worth = figures["auroc"]
    print(f"{site:5} AUROC {worth['value']:.2f} ({worth['low']:.2f} to {worth['high']:.2f}), n = {worth['n']}")

# %% [markdown]
# Who is ill is told apart well at each hospital. The report looks at more than that: whether a chance of 20 per cent is
# one, at a scanner with more contrast.

# %%
report = simulated.report()
for finding in report.findings.found:
    print(f"{finding.level}: {finding.title}.")
report.write("chest-x-rays.html")
plot = report.plots()["rounds"]
plot
