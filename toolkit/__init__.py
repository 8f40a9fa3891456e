"""The toolkit from Python: three functions that the commands are thin over.

    from pathlib import Path
    from toolkit import build, report, run

    build("net.onnx", "base", Path("build/net"))
    ran = run(Path("build/net"), "cycle", check=True)
    page = report(ran.files[0]).page

`build` is `python -m compiler build`, `run` is `python -m sim run`, `report` is `python -m
reports`: the same arguments, results and files. `run_each` is a run for every image of a folder.
Errors are exceptions, and nothing is printed.
"""

from proof.build import Built, build
from reports.command import Reported, report
from sim.command import Ran, RanEach, run, run_each

__all__ = ["Built", "Ran", "RanEach", "Reported", "build", "report", "run", "run_each"]
