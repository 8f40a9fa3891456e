"""Transformed (hFA) layers: equal to the direct convolution to the last bit, wherever they fit."""

import dataclasses

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from compiler.codegen import hfa
from compiler.codegen.build import generate
from compiler.codegen.policy import NAMES, OBJECTIVES, Policy, plain
from compiler.onnx_import import import_model
from compiler.tensor import CompilerError, GraphError
from hw.arch.config import FEATURES, AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Begin, Drain, Reduce
from sim.host import read
from tests.compiler.backend.harness import convolution, execute, feeds_of, kind, network
from tests.models.qdq import Q, both, conv_model

CONFIGS = {name: AcceleratorConfig.load(name) for name in ("tiny_hfa", "base_hfa")}
TINY, BASE = CONFIGS["tiny_hfa"], CONFIGS["base_hfa"]
SAME = {"pad_begin": (0, 1, 1), "pad_end": (0, 1, 1)}
TEMPORAL = {"pad_begin": (1, 0, 0), "pad_end": (1, 0, 0)}
FULL = {"pad_begin": (1,) * 3, "pad_end": (1,) * 3}
SPATIAL = ("F(2x2,3x3)", "F(4x4,3x3)")
NESTED = ("F(2,3)xF(2x2,3x3)", "F(2,3)xF(4x4,3x3)", "F(4,3)xF(2x2,3x3)")
LINE = ("F(2,3)", "F(4,3)")


def padded(axis: int, begin: int, end: int) -> dict[str, tuple[int, int, int]]:
    """Padding along one of t, h, w."""
    pads = [[0, 0, 0], [0, 0, 0]]
    pads[0][axis], pads[1][axis] = begin, end
    return {"pad_begin": tuple(pads[0]), "pad_end": tuple(pads[1])}


# Shape, results, kernel, attributes, algorithms that can be asked for.
CASES = {
    "7x7": ((9, 1, 7, 7), 10, (1, 3, 3), SAME, SPATIAL),
    "4x4, two frames": ((9, 2, 4, 4), 10, (1, 3, 3), SAME, SPATIAL),
    "14x14": ((20, 1, 14, 14), 5, (1, 3, 3), SAME, SPATIAL),
    "unequal padding": (
        (5, 2, 9, 8),
        6,
        (1, 3, 3),
        {"pad_begin": (0, 2, 0), "pad_end": (0, 1, 2)},
        SPATIAL,
    ),
    "dilated map": ((6, 2, 9, 11), 9, (1, 3, 3), {**FULL, "dilation": (1, 2, 2)}, SPATIAL),
    "pool in the tile": ((6, 1, 7, 7), 9, (1, 3, 3), {**SAME, "pool": (1, 2, 2)}, SPATIAL),
    "temporal": ((9, 7, 5, 6), 10, (3, 1, 1), TEMPORAL, LINE),
    "two frames": ((9, 2, 4, 4), 10, (3, 1, 1), TEMPORAL, LINE),
    "dilated time": ((9, 9, 3, 4), 10, (3, 1, 1), {**padded(0, 2, 2), "dilation": (2, 1, 1)}, LINE),
    "Conv1d": ((9, 1, 1, 23), 10, (1, 1, 3), padded(2, 1, 1), LINE),
    "Conv1d dilated, causal": (
        (9, 1, 1, 23),
        10,
        (1, 1, 3),
        {**padded(2, 6, 0), "dilation": (1, 1, 3)},
        LINE,
    ),
    "3x3x3": ((6, 5, 6, 7), 9, (3, 3, 3), FULL, SPATIAL + NESTED),
    "3x3x3, pool 2x2x2": ((6, 4, 8, 8), 9, (3, 3, 3), {**FULL, "pool": (2, 2, 2)}, NESTED),
    "stem, packed": ((3, 4, 12, 12), 9, (3, 3, 3), {**FULL, "pool": (1, 2, 2)}, SPATIAL + NESTED),
    "taps and steps along time": (
        (6, 6, 8, 8),
        9,
        (5, 3, 3),
        {"pad_begin": (2, 1, 1), "pad_end": (2, 1, 1), "stride": (2, 1, 1)},
        SPATIAL,
    ),
    "streamed weights": ((96, 1, 5, 5), 24, (1, 3, 3), SAME, SPATIAL),
}
FORCED = [(name, asked) for name, case in CASES.items() for asked in case[4]]


def layer(name: str, signed: bool = False):
    shape, out, kernel, attributes, _ = CASES[name]
    return conv(shape, out, kernel, attributes, signed)


def conv(shape, out, kernel, attributes, signed=False, zero_point=None):
    zero = zero_point if zero_point is not None else (-7 if signed else 77)
    source = kind(shape, zero_point=zero, signed=signed)
    op, result = convolution(np.random.default_rng(1), source, out, kernel, **attributes)
    return network({"x": source}, [op], {"y": result})


def modes(program) -> set[ArrayMode]:
    return {ArrayMode(i.mode) for i in program.instructions if isinstance(i, Array)}


def record(program, at: int = 0):
    return program.layers[at].tiling["hfa"]


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize(("name", "asked"), FORCED)
def test_a_transformed_layer_equals_the_direct_one(name, asked, config):
    graph = layer(name, signed=asked in LINE)
    program = generate(graph, CONFIGS[config], policy=Policy(asked))
    assert plain(record(program)["chosen"]) == asked
    assert modes(program) == {ArrayMode.HFA}
    assert execute(graph, CONFIGS[config], program).differing() == []


@pytest.mark.parametrize("name", CASES)
def test_other_algorithms_are_refused_with_a_reason(name):
    graph = layer(name)
    for asked in sorted(set(NAMES) - set(CASES[name][4])):
        program = generate(graph, TINY, policy=Policy(asked))
        chosen = record(program)
        assert chosen["chosen"] == "direct"
        assert chosen["reason"].startswith(NAMES[asked].name + ": ")
        assert modes(program) == {ArrayMode.GEMM}


KERNELS = {
    (1, 3, 3): SPATIAL,
    (3, 1, 1): LINE,
    (3, 3, 3): SPATIAL + NESTED,
    (1, 1, 3): LINE,
}


@st.composite
def dense(draw):
    """A graph of one dense convolution with three taps somewhere, and an algorithm for it."""
    kernel = draw(st.sampled_from(sorted(KERNELS)))
    asked = draw(st.sampled_from(KERNELS[kernel]))
    shape = (
        draw(st.integers(1, 20)),
        draw(st.integers(1, 9)) if kernel[0] == 3 else draw(st.integers(1, 3)),
        draw(st.integers(1, 15)) if kernel != (1, 1, 3) else 1,
        draw(st.integers(1, 15)),
    )
    if kernel == (1, 1, 3):
        shape = (shape[0], 1, 1, shape[3])
    dilation = tuple(draw(st.integers(1, 3)) if k == 3 else 1 for k in kernel)
    pads = [tuple(draw(st.integers(0, 2)) if k == 3 else 0 for k in kernel) for _ in range(2)]
    pool = draw(st.sampled_from([None, (1, 2, 2), (2, 2, 2)]))
    signed = draw(st.booleans())
    zero = draw(st.integers(-128, 127) if signed else st.integers(0, 255))
    try:
        graph = conv(
            shape,
            draw(st.integers(1, 20)),
            kernel,
            {
                "dilation": dilation,
                "pad_begin": pads[0],
                "pad_end": pads[1],
                "pool": pool,
                "signed": draw(st.booleans()),
            },
            signed,
            zero,
        )
    except GraphError as error:
        assume("does not fit" not in str(error))
        raise
    return graph, asked


RANDOM = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


def check_random(example, config):
    graph, asked = example
    program = generate(graph, CONFIGS[config], policy=Policy(asked))
    chosen = record(program)
    # Only a pool or the memories can stand in the way.
    excused = any(word in chosen["reason"] for word in ("pool", "fits the memories"))
    assert plain(chosen["chosen"]) == asked or excused
    assert execute(graph, CONFIGS[config], program).differing() == []


@settings(max_examples=80, **RANDOM)
@given(dense(), st.sampled_from(sorted(CONFIGS)))
def test_random_layers(example, config):
    check_random(example, config)


@pytest.mark.slow
@settings(max_examples=1000, **RANDOM)
@given(dense(), st.sampled_from(sorted(CONFIGS)))
def test_a_thousand_random_layers(example, config):
    check_random(example, config)


ORACLE = {
    "map": ((1, 6, 7, 9), (10, 6, 3, 3), {"pads": [1, 1, 1, 1]}, "F(4x4,3x3)"),
    "map, F(2x2)": ((1, 6, 4, 4), (5, 6, 3, 3), {"pads": [0, 1, 2, 1]}, "F(2x2,3x3)"),
    "clip": ((1, 5, 4, 6, 6), (7, 5, 3, 3, 3), {"pads": [1] * 6}, "F(2,3)xF(4x4,3x3)"),
    "temporal": ((1, 5, 6, 3, 3), (7, 5, 3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}, "F(4,3)"),
    "sequence": ((1, 8, 19), (6, 8, 3), {"pads": [2, 2], "dilations": [2]}, "F(4,3)"),
}


@pytest.mark.parametrize("name", ORACLE)
def test_an_onnx_layer_equals_the_independent_oracle(name):
    """Oracle and ONNX Runtime know nothing of this compiler."""
    shape, weights, attributes, asked = ORACLE[name]
    rng = np.random.default_rng(3)
    w = rng.integers(-127, 128, weights).astype(np.int8)
    bias = rng.integers(-5000, 5000, weights[0]).astype(np.int32)
    scales = rng.uniform(0.001, 0.003, weights[0]).astype(np.float32).tolist()
    model = conv_model(
        shape, w, Q(0.04, 131), Q(scales, 0, np.int8), Q(0.05, 110), bias, **attributes
    )
    graph = import_model(model, "layer").graph
    assert graph is not None
    program = generate(graph, TINY, policy=Policy(asked))
    assert modes(program) == {ArrayMode.HFA}
    run = execute(graph, TINY, program)
    oracle, runtime = both(model, {"x": feeds_of(graph)["x"]})
    (result,) = program.outputs
    assert np.array_equal(
        read(run.memory, result), oracle.reshape(run.reference[result.name].shape)
    )
    assert np.abs(oracle.astype(int) - runtime).max() <= 1


# Twins: what must be seen.


def broken(program, **changes):
    """The program with some fields of its first ARRAY and DRAIN changed."""
    code = list(program.instructions)
    for kind_of in (Array, Drain):
        at = next(n for n, i in enumerate(code) if isinstance(i, kind_of))
        fields = {k: v(getattr(code[at], k)) for k, v in changes.items() if hasattr(code[at], k)}
        code[at] = dataclasses.replace(code[at], **fields)
    return dataclasses.replace(program, instructions=tuple(code))


@pytest.mark.parametrize(
    "changes",
    [
        {"zero_point": lambda z: z ^ 1},
        {"bounds": lambda b: (b[0], b[1] - 1, b[2])},
        {"destination_deltas": lambda d: (d[0], d[2], d[1], *d[3:])},
        {"low": lambda low: low + 40},
    ],
    ids=["zero point", "bound", "destination", "clamp"],
)
def test_a_wrong_field_is_seen(changes):
    graph = layer("7x7")
    program = generate(graph, TINY, policy=Policy("F(4x4,3x3)"))
    run = execute(graph, TINY, broken(program, **changes))
    assert run.differing() == ["y"]


def test_a_bias_that_is_not_folded_is_seen(monkeypatch):
    graph = layer("temporal")
    monkeypatch.setattr("compiler.codegen.convolution.fold", lambda op, source: op)
    program = generate(graph, TINY, policy=Policy("F(4,3)"))
    assert execute(graph, TINY, program).differing() == ["y"]


def test_taps_in_the_direct_order_are_seen(monkeypatch):
    graph = layer("7x7")
    direct = lambda weights, algorithm, config: np.ascontiguousarray(  # noqa: E731
        weights.transpose(1, 2, 3, 4, 0, 5, 6)
    ).tobytes()
    monkeypatch.setattr("compiler.codegen.gemm.weight_bytes", direct)
    program = generate(graph, TINY, policy=Policy("F(4x4,3x3)"))
    assert execute(graph, TINY, program).differing() == ["y"]


# Choice.


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
        ((16, 1, 9, 9), 16, (1, 3, 3), {**SAME, "groups": 16}, "depthwise"),
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
    source = generate(graph, TINY).inputs[0]
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
        (Policy("F(3,3)"), "base_hfa", r"--hfa F\(3,3\): unknown; there are off, auto, F\(2x2"),
        (Policy("F(4,3)xF(4x4,3x3)"), "base_hfa", "unknown"),
        (Policy("auto", "speed"), "base_hfa", "--objective speed: unknown; there are cycles"),
        (Policy("F(4,3)"), "large", "configuration large is built without hfa"),
    ],
)
def test_unknown_names_are_refused(policy, config, words):
    with pytest.raises(CompilerError, match=words):
        generate(layer("7x7"), AcceleratorConfig.load(config), policy=policy)


def test_names_can_be_typed_or_copied():
    assert Policy("F(2,3)⊗F(4×4,3×3)").forced == Policy("F(2,3)xF(4x4,3x3)").forced
