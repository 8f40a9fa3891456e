"""The whole ladder on FSB-C3D: the oracle, the functional machine, the cycle model and the RTL."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.__main__ import main as compiler_main
from hw.arch.config import AcceleratorConfig
from models.__main__ import main as models_main
from sim.backend import Options
from sim.build import Build
from sim.cosim.backend import RtlBackend
from sim.cycle.backend import CycleBackend
from sim.host import start_image
from sim.run import check, reference_tensors
from tests.ladder.compare import differences, layer_errors

pytestmark = [pytest.mark.cosim, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


def compiled(folder: Path, size: str, config: str) -> Build:
    source = folder / f"fsb_c3d_{size}.onnx"
    target = folder / f"fsb_c3d_{size}_{config}"
    if not source.is_file():
        assert models_main(["export", "fsb_c3d", "--size", size, "-o", str(source)]) == 0
    path = f"hw/configs/{config}.yaml"
    assert compiler_main(["build", str(source), "--config", path, "-o", str(target)]) == 0
    build = Build.load(target)
    assert build.config.fingerprint == AcceleratorConfig.load(config).fingerprint
    return build


@pytest.mark.parametrize(
    ("size", "config"), [("tiny", "tiny"), ("tiny", "base"), ("paper", "base")]
)
def test_fsb_c3d(folder: Path, size: str, config: str) -> None:
    build = compiled(folder, size, config)
    program = build.program
    inputs = build.inputs()
    memory = start_image(program, build.feeds(inputs))
    model = CycleBackend().run(program, build.config, memory, Options())
    rtl = RtlBackend().run(program, build.config, memory, Options())
    print("\n".join(layer_errors(program, rtl, model)))
    print(f"{rtl.cycles} cycles at {rtl.counters['cycles'] / rtl.wall_s / 1e3:.0f} kHz")
    assert differences(rtl, model) == []
    assert rtl.trace is not None
    reference = reference_tensors(build, inputs)
    comparison = check(build, inputs, rtl.image, rtl.trace, reference)
    assert comparison is not None and comparison.compared
    assert comparison.first is None and not comparison.differing
