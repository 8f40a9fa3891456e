"""Which layers are transformed, by which algorithm, and what is said about the others."""

import dataclasses
import json

import numpy as np
import onnx
import pytest

from compiler.__main__ import main
from compiler.array import hfa
from compiler.backend.build import generate
from compiler.policy import NAMES, OBJECTIVES, Policy
from compiler.tensor import CompilerError
from hw.arch.config import FEATURES, AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Begin, Reduce
from tests.compiler.backend.hfa_cases import (
    BASE,
    FULL,
    SAME,
    TINY,
    conv,
    layer,
    modes,
    padded,
    record,
)
from tests.models.qdq import Q, conv_model


def test_a_stem_is_packed_along_time():
    program = generate(layer("stem, packed"), BASE, policy=Policy("F(4x4,3x3)"))
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    assert any(isinstance(i, Reduce) for i in program.instructions)
    assert all(a.counts[6] == a.counts[7] == 1 for a in arrays)  # one set


def test_dilated_time_is_interleaved():
    program = generate(layer("dilated time"), BASE, policy=Policy("F(4,3)"))
    arrays = [i for i in program.instructions if isinstance(i, Array)]
    assert {a.starts[2] for a in arrays} >= {-2, -1}  # one sequence each
    assert {a.dilations[2] for a in arrays} == {2}


def test_the_program_names_the_features_it_needs():
    graph = conv((20, 4, 6, 6), 16, (3, 3, 3), FULL)
    for asked, needed in (("F(4x4,3x3)", {"hfa"}), ("F(2,3)xF(4x4,3x3)", {"hfa", "hfa_nested"})):
        begin = generate(graph, BASE, policy=Policy(asked)).instructions[0]
        assert isinstance(begin, Begin)
        names = {name for bit, name in enumerate(FEATURES) if begin.features >> bit & 1}
        assert names == needed


def test_each_layer_says_what_it_could_be_and_why():
    program = generate(layer("3x3x3"), BASE)
    chosen = record(program)
    ways = chosen["candidates"]
    assert chosen["chosen"] == min(ways, key=lambda name: ways[name]["cycles"])
    assert set(ways) | set(chosen["refused"]) == {"direct", *(a.name for a in NAMES.values())}
    for way in ways.values():
        assert set(way) == {"cycles", "multiplications", "energy_uj", "dram_bytes"}
        assert min(way.values()) > 0
    assert "F(2,3)" in chosen["refused"]


@pytest.mark.parametrize(
    ("shape", "out", "kernel", "attributes", "words"),
    [
        ((8, 1, 9, 9), 8, (1, 1, 1), {}, "kernel of 1×1×1"),
        ((8, 1, 9, 9), 8, (1, 3, 3), {**SAME, "stride": (1, 2, 2)}, "stride 2 along x"),
        ((8, 1, 9, 9), 8, (1, 3, 3), {**SAME, "groups": 2}, "2 groups"),
        ((16, 1, 9, 9), 16, (1, 3, 3), {**SAME, "groups": 16}, "cycles: "),
        ((8, 1, 9, 9), 8, (1, 7, 7), {}, "kernel of 1×7×7"),
        ((8, 1, 9, 9), 8, (1, 3, 3), {"pool": (1, 3, 3)}, "a pool of 3 along x crosses tiles"),
    ],
)
def test_what_stays_direct_says_why(shape, out, kernel, attributes, words):
    graph = conv(shape, out, kernel, attributes)
    program = generate(graph, BASE)
    assert record(program)["chosen"] == "direct"
    assert words in record(program)["reason"]


def test_a_layer_that_gains_nothing_stays_direct():
    graph = conv((64, 1, 8, 8), 16, (3, 1, 1), padded(0, 1, 1))
    chosen = record(generate(graph, BASE))
    assert chosen["chosen"] == "direct"
    assert chosen["reason"].startswith("cycles: ")


def test_a_bias_that_does_not_fold_stays_direct():
    graph = layer("temporal")
    (op,) = graph.ops
    huge = dataclasses.replace(op, bias=np.full_like(op.bias, (1 << 31) - 1))
    program = generate(graph, TINY)
    source = program.tensor(program.feeds[0].tensor)
    with pytest.raises(ValueError, match="folded bias"):
        hfa.fold(huge, dataclasses.replace(source, zero_point=0))


def test_accumulators_that_are_too_narrow_are_refused():
    memory = dataclasses.replace(BASE.memory, accumulator_bits=32)
    narrow = dataclasses.replace(BASE, memory=memory)
    program = generate(conv((256, 1, 6, 6), 16, (1, 3, 3), SAME), narrow)
    assert "accumulators of 256 channels" in record(program)["refused"]["F(4×4,3×3)"]


def test_objectives_choose_differently():
    graph = conv((64, 4, 14, 14), 64, (3, 3, 3), FULL)
    found = {o: record(generate(graph, BASE, policy=Policy("auto", o))) for o in OBJECTIVES}
    for objective, key in zip(OBJECTIVES, ("cycles", "energy_uj", "multiplications"), strict=True):
        ways = found[objective]["candidates"]
        chosen = found[objective]["chosen"]
        assert ways[chosen][key] == min(way[key] for way in ways.values())


def test_off_is_the_program_of_a_machine_without():
    """Same instructions as on a configuration without hfa, but for the fingerprint."""
    plain = AcceleratorConfig.load("large")
    graph = conv((40, 4, 9, 9), 33, (3, 3, 3), FULL)
    assert generate(graph, plain) == generate(graph, plain, policy=Policy("off"))
    program = generate(graph, BASE, policy=Policy("off"))
    assert modes(program) == {ArrayMode.GEMM}
    assert record(program)["reason"] == "switched off (--hfa off)"


@pytest.mark.parametrize(
    ("policy", "config", "words"),
    [
        (Policy("F(3,3)"), "base", r"--hfa F\(3,3\): unknown; there are off, auto, F\(2x2"),
        (Policy("F(4,3)xF(4x4,3x3)"), "base", "unknown"),
        (Policy("auto", "speed"), "base", "--objective speed: unknown; there are cycles"),
        (Policy("F(4,3)"), "large", "configuration large is built without hfa"),
    ],
)
def test_unknown_names_are_refused(policy, config, words):
    with pytest.raises(CompilerError, match=words):
        generate(layer("7x7"), AcceleratorConfig.load(config), policy=policy)


def test_names_can_be_typed_or_copied():
    assert Policy("F(2,3)⊗F(4×4,3×3)").forced == Policy("F(2,3)xF(4x4,3x3)").forced


@pytest.fixture
def file(tmp_path):
    """A quantized ONNX file of one layer."""
    w = np.random.default_rng(0).integers(-127, 128, (6, 5, 3, 3)).astype(np.int8)
    model = conv_model(
        (1, 5, 8, 8), w, Q(0.04, 131), Q(0.002, 0, np.int8), Q(0.05, 110), pads=[1, 1, 1, 1]
    )
    onnx.save(model, str(tmp_path / "layer.onnx"))
    return tmp_path / "layer.onnx"


def test_a_build_says_what_was_chosen(file, tmp_path, capsys):
    target = tmp_path / "out"
    common = ["build", str(file), "--config", "tiny", "-o", str(target)]
    assert main([*common, "--hfa", "F(2x2,3x3)", "--objective", "energy"]) == 0
    built = json.loads((target / "build.json").read_text())
    assert (built["hfa"], built["objective"]) == ("F(2x2,3x3)", "energy")
    (text,) = (target / "stages").glob("*-hfa.txt")
    lines = text.read_text().splitlines()
    assert lines[0].endswith("(conv): F(2×2,3×3)")
    assert any("direct: " in line and "multiplications" in line for line in lines)
    assert any("F(4,3): refused, 1 tap along t" in line for line in lines)
    capsys.readouterr()
    assert main([*common, "--hfa", "F(9,9)"]) == 2
    assert "error: --hfa F(9,9): unknown; there are off, auto" in capsys.readouterr().err
