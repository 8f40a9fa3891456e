"""What an attention block makes stays on chip; each reason for it, taken away, is seen."""

import numpy as np
import pytest

from compiler.array.gemm import GemmEmission
from compiler.array.whole import Whole
from compiler.backend.build import emit, lay_out
from compiler.emit.onchip import OnChip
from compiler.ir import AxisMean
from compiler.onnx_import import import_onnx
from compiler.pipeline import back_end_accepts, optimize
from compiler.policy import Policy
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, Load, Reduce, Space, Store
from hw.arch.numerics import Mean
from hw.arch.timing import transfer_beats
from models.export import export
from tests.compiler.backend.harness import convolution, kind, network

BASE = AcceleratorConfig.load("base")


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """VTN's decoder at paper size, laid out for `base`."""
    path = tmp_path_factory.mktemp("decoder") / "decoder.onnx"
    export("vtn_decoder", path, "paper")
    graph = import_onnx(path).graph
    assert graph is not None
    graph = optimize(graph, True, back_end_accepts(BASE, Policy()), lambda *_: None)
    return lay_out(graph, BASE, Policy())


def passed(settled):
    """Beats of activations that pass the port."""
    program = emit(settled, BASE)
    return sum(
        transfer_beats(i)
        for i in program.instructions
        if isinstance(i, Store) or (isinstance(i, Load) and i.space == Space.ACTIVATION)
    )


def test_it_passes_the_port_from_slots(settled, monkeypatch):
    """The twin: operands of products lie in slots of their own."""
    least = passed(settled)
    monkeypatch.setattr(Whole, "of", lambda *_: None)
    assert passed(settled) > least


def test_what_passes_the_port(settled):
    """Inputs, the outputs, and V, which becomes weights; constants of norms are activations."""
    program = emit(settled, BASE)
    values = [t for t in program.tensors if "value" in t.name]
    assert values
    stored = {t.name for t in program.tensors}
    assert not any("key" in name or "query" in name or "scores" in name for name in stored), stored


def test_tiles_of_a_mean_lie_where_the_map_does():
    """They are computed block by block while the convolution makes the others."""
    rng = np.random.default_rng(0)
    x = kind((64, 1, 3, 3))
    conv, made = convolution(rng, x, 512, (1, 1, 1), output="m")
    y = kind((512, 1, 1, 1))
    arithmetic = Mean.of(made.scale, y.scale, y.zero_point, 9)
    mean = AxisMean(
        name="mean", inputs=("m",), output="y", axes=(2, 3), mean=arithmetic, low=0, high=255
    )
    graph = network({"x": x}, [conv, mean], {"m": made, "y": y})

    code = emit(lay_out(graph, BASE), BASE).instructions
    assert sum(isinstance(i, Reduce) for i in code) >= 4
    assert sum(isinstance(i, Load) and i.space == Space.ACTIVATION for i in code) == 1, "of x"


def test_results_of_a_tile_have_a_place_each(monkeypatch):
    """As they are emitted; the twin lets them take turns in two slots."""
    rng = np.random.default_rng(0)
    x = kind((512, 1, 7, 7))
    conv, made = convolution(rng, x, 512, (1, 1, 1))
    graph = network({"x": x}, [conv], {"y": made})
    monkeypatch.setattr(OnChip, "layer", lambda *_: None)

    def places():
        code = emit(lay_out(graph, BASE), BASE).instructions
        return [i.destination for i in code if isinstance(i, Drain)]

    whole = places()
    assert len({*whole}) == len(whole) > 2
    monkeypatch.setattr(GemmEmission, "_lies_whole", lambda *_: False)
    assert len({*places()}) == 2
