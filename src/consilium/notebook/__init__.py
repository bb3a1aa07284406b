"""Studies on this machine, from a notebook or a script: load, simulate, compare, plot, report.

Beside `consilium.api`, which speaks with a coordinator. Functions and options are those of the command line::

    from consilium import notebook

    study = notebook.load("study.yaml")
    compared = notebook.compare(study, "hospitals", ["fedavg", "ditto"])
    print(compared)
    simulated = notebook.simulate(study, "hospitals")
    simulated.report().write("report.html")
"""

from consilium.notebook.comparison import Comparison, compare
from consilium.notebook.hospitals import write_hospitals
from consilium.notebook.simulated import Simulated, baseline, simulate
from consilium.notebook.studies import load

__all__ = ["Comparison", "Simulated", "baseline", "compare", "load", "simulate", "write_hospitals"]
