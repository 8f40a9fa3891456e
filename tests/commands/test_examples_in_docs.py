"""Every command that README and docs show is run, in their order, on small networks.

What takes minutes is run in another way, which `ADAPTED` says; what has a test of its own is in
`ELSEWHERE`. A line that is in none of these, and does not run, fails here.
"""

from __future__ import annotations

import importlib
import re
import shlex
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from examples import own_network
from models.data import synthetic_clip
from models.preprocessing import beside

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's and onnxruntime's own

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/own-network.md", "docs/networks.md")
ADAPTED = (
    (r"^models export (?!.*--size)(.*)$", r"models export \1 --size tiny"),
    (r" --on rtl", " --on cycle"),  # the circuit of base compiles for minutes: `make cosim` runs it
    (r"^hw verilog --config base", "hw verilog --config tiny_direct"),
    (r"^examples\.own_network(.*)$", r"examples.own_network\1 --config tiny"),
    (r" --config tiny(.*) --config tiny", r" --config tiny\1"),
    (r"^examples\.sweep_width .*", "examples.sweep_width 4 --config tiny"),
    (r"(build/any|build/net) --input clip.npz", r"\1 --input video.npz"),
)
"""What is run in place of what is shown."""
ELSEWHERE = {
    "hw synth": "tests/hw/boards",
    "fuzz.arms": "tests/fuzz/test_arms.py",
    "proof.board_memory": "tests/cosim/test_soc_cycles.py",
    "proof.clip": "tests/proof/test_clip.py",
    "proof.families": "tests/proof/test_families.py",
    "proof.top1": "tests/proof/test_top1.py",
    "compiler build any.onnx --config ecp5_85k --memory": "tests/proof/test_memory.py",
    "compiler build cell.onnx": "tests of states",
    "sim run build/cell": "tests of states",
    "sim run build/any --on soc": "tests/cosim/test_soc.py",
}


def shown():
    """Commands of the pages, without comments and options in brackets."""
    for page in PAGES:
        for line in (ROOT / page).read_text().splitlines():
            found = re.match(r"^ {4,}(?:\.venv/bin/)?python -m (.*)$", line)
            if found:
                words = found[1].split("  #")[0].split(" # ")[0]
                yield page, re.sub(r"\[[^\[\]]*(\[[^\]]*\])?[^\[\]]*\]", "", words).strip()


def run(command):
    """Exit code of a command, in this process."""
    for pattern, replacement in ADAPTED:
        command = re.sub(pattern, replacement, command)
    package, *words = shlex.split(command)
    module = package if package.startswith("examples.") else f"{package}.__main__"
    return importlib.import_module(module).main(words) or 0


def write_video(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 48, "yuv420p"
        for t in range(12):
            picture = np.full((48, 80, 3), 20 * t, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.cosim
def test_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "made"
    folder.mkdir()
    onnx = own_network.quantized(own_network.network(4), folder)
    for name in ("any", "int8"):
        shutil.copy(onnx, tmp_path / f"{name}.onnx")
    shutil.copy(beside(onnx), tmp_path)  # what step 3 of own-network.md writes
    for path in folder.glob("float.onnx*"):  # torch keeps weights in a file beside it
        shutil.copy(path, tmp_path)
    np.savez("clip.npz", clip=synthetic_clip(100, *own_network.SHAPE[2:]))
    shutil.copy("clip.npz", "video.npz")
    write_video(tmp_path / "dog.mp4")
    (tmp_path / "names.txt").write_text("\n".join(f"class {i}" for i in range(10)))
    commands = list(shown())
    assert len(commands) > 20
    ran = 0
    for page, command in commands:
        if any(command.startswith(start) for start in ELSEWHERE):
            continue
        if command.startswith("sim run build/net") and not Path("build/net").exists():
            assert run("compiler build int8.onnx -o build/net --record clip.npz") == 0
        if command.startswith("reports compare"):
            for name in "ab":
                shutil.copytree("build/any", f"build/{name}")
        capsys.readouterr()
        assert run(command) == 0, f"{page}: python -m {command}\n{capsys.readouterr().err}"
        if "--labels" in command:
            assert "class " in capsys.readouterr().out
        ran += 1
    assert ran >= len(commands) - len(ELSEWHERE) - 2


COMMANDS = {
    "models": ("list", "table", "export", "cells", "cut", "stats", "run", "ortcheck"),
    "compiler": ("build", "check"),
    "sim": ("run", "image"),
    "reports": (),
    "hw": ("verilog", "synth", "config", "header", "fit", "bitstream"),
    "fuzz": (),
    "fuzz.arms": (),
    "proof.board_memory": (),
    "proof.clip": (),
    "proof.cycles": (),
    "proof.families": (),
    "proof.limits": (),
    "proof.operators": (),
    "proof.deviations": (),
    "proof.group_deviations": (),
    "proof.top1": (),
    "examples.own_network": (),
    "examples.sweep_width": (),
}
"""Everything that is run as `python -m`, and its commands."""


@pytest.mark.parametrize("package", COMMANDS)
def test_help_names_every_command(package, capsys):
    module = package if "." in package else f"{package}.__main__"
    main = importlib.import_module(module).main
    for words in ([], *([command] for command in COMMANDS[package])):
        with pytest.raises(SystemExit) as left:
            main([*words, "--help"])
        told = capsys.readouterr().out
        assert left.value.code == 0 and f"usage: python -m {' '.join([package, *words])}" in told
        assert words or all(command in told for command in COMMANDS[package])


def test_no_command_is_missing():
    """What is run as `python -m` says so: by a __main__.py, or by its last lines."""
    found = {path.parent.name for path in ROOT.glob("*/__main__.py")}
    for path in (p for room in ("examples", "fuzz", "proof") for p in ROOT.glob(f"{room}/*.py")):
        if "leave(main)" in path.read_text() and path.name != "__main__.py":
            found.add(f"{path.parent.name}.{path.stem}")
    assert found == set(COMMANDS)
