# %% [markdown]
# # Survival: a Cox regression over hospitals
#
# What goes with relapse or death after breast cancer? Three hospitals fit one Cox regression, each with a baseline
# hazard of its own. Nothing is trained in small steps: in a few rounds they add up first and second derivatives, within
# a secure sum, and the hazard ratios are those of all patients in one table.
#
# The patients are real: 2,982 of the Rotterdam tumour bank, here as two hospitals, and 686 of a trial of the German
# breast cancer study group (R package `survival`). They do not come with Consilium: `CONSILIUM_DATA` names the folder
# in which `multicentre/rotterdam.csv` and `multicentre/gbsg.csv` lie.

# %%
import csv
import os
from pathlib import Path

from consilium import notebook

DATA = Path(os.environ.get("CONSILIUM_DATA", "../shared/data")) / "multicentre"
if not DATA.is_dir():
    raise SystemExit(f"skipped: {DATA} is not here")


def patients(name):
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


# %% [markdown]
# Each hospital's table has the columns of the contract. A label that is a time to an event has two: whether it came,
# and when, or until when it had not. Tables are dicts of columns here; pandas data frames do as well.

# %%
MARKERS = ("age", "nodes", "pgr", "er", "hormon")
hospitals = {}
for row in patients("rotterdam.csv"):
    recurred = row["recur"] == "1"
    one = {name: float(row[name]) for name in MARKERS}
    one["large"] = float(row["size"] != "<=20")
    one["relapse"] = int(recurred or row["death"] == "1")
    one["relapse_time"] = float(row["rtime"] if recurred else row["dtime"])
    hospitals.setdefault(f"rotterdam-{1 + int(row['pid']) % 2}", []).append(one)
for row in patients("gbsg.csv"):
    one = {name: float(row[name]) for name in MARKERS}
    one["large"] = float(float(row["size"]) > 20)
    one["relapse"], one["relapse_time"] = int(row["status"]), float(row["rfstime"])
    hospitals.setdefault("german-trial", []).append(one)
tables = {site: {name: [one[name] for one in rows] for name in rows[0]} for site, rows in hospitals.items()}
for site, table in tables.items():
    print(f"{site}: {len(table['relapse'])} patients, {sum(table['relapse'])} relapsed or died")

# %% [markdown]
# ## The study
#
# A study is a file, or a dict with its keys.

# %%
RANGES = {
    "age": ("age at operation", "a", [18, 100]),
    "large": ("tumour of more than 20 mm: 1, else 0", "1", [0, 1]),
    "nodes": ("positive lymph nodes", "1", [0, 60]),
    "pgr": ("progesterone receptors", "fmol/mL", [0, 6000]),
    "er": ("oestrogen receptors", "fmol/mL", [0, 4000]),
    "hormon": ("hormonal treatment: 1, else 0", "1", [0, 1]),
}
features = [
    {"id": name, "meaning": meaning, "type": "number", "unit": unit, "range": ends, "missing": "forbidden"}
    for name, (meaning, unit, ends) in RANGES.items()
]
label = {
    "id": "relapse",
    "meaning": "relapse, or death of any cause",
    "type": "time-to-event",
    "unit": "d",
    "range": [0, 8000],
}
study = notebook.load(
    {
        "consilium": 1,
        "name": "breast-survival",
        "title": "Relapse after breast cancer",
        "purpose": {"code": "research", "text": "Hazard ratios of routine findings.", "requester": "Example group"},
        "contract": {"id": "breast-survival", "features": features, "label": label},
        "model": {"kind": "cox"},
        "strategy": {"name": "newton"},
        "privacy": {"recipe": "secure_sum", "most_patients": 2000},
        "rounds": 8,
        "quorum": 3,
    }
)

# %% [markdown]
# ## Hazard ratios
#
# Of the patients who are not held out.

# %%
simulated = notebook.simulate(study, tables)
fit = simulated.regression
print(f"{fit.patients} patients, {fit.baseline}; converged: {fit.converged}")
for term in fit.terms:
    ratio, low, high = term.ratio
    print(
        f"{term.words:16} hazard ratio {ratio:.4f} ({low:.4f} to {high:.4f}), {'p < 0.001' if term.p < 0.001 else ''}"
    )

# %% [markdown]
# A lymph node more raises the hazard by some 8 per cent, hormonal treatment lowers it by some 20.
#
# ## What it is worth
#
# Concordance, on the patients held out: of two of them, how often the one with the event first had the higher hazard;
# beside each hospital's own model.

# %%
report = simulated.report(notebook.baseline(study, tables))
for row in report.tables()["figures"]:
    if row["metric"] == "concordance" and row["model"] in ("federated", "own"):
        figure = f"{row['value']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        print(f"{row['hospital']:13} {row['model']:10} concordance {figure}, n = {row['n']}")
report.write("survival.html")
plot = report.plots()["compared"]
plot
