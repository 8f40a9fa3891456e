"""Depthwise layers in tiles of F(2×2,3×3): values, the choice, and what is said about it."""

import dataclasses
from collections import Counter

import numpy as np
import onnx
import pytest

from compiler import pipeline
from compiler.backend.build import generate
from compiler.onnx_import import import_onnx
from compiler.policy import OBJECTIVES, Policy
from compiler.printer import print_choices
from hw.arch.config import FEATURES, AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Begin, Load, Space
from hw.timeline.compute import array_products
from models.reference import Reference
from sim.backend import Options
from sim.cycle.backend import CycleBackend
from sim.energy.actions import COMPONENTS, Action, count_actions
from sim.energy.table import EnergyTable
from sim.functional import MachineError
from sim.functional.hazards import HazardError
from sim.host import read
from tests.compiler.backend.harness import execute, feeds_of
from tests.compiler.backend.hfa_cases import SAME, conv, modes, record
from tests.models.qdq import Q, conv_model

ALL = ("depthwise", "vector", "hfa", "hfa_depthwise")


def _square(name: str, rows: int, **memory: int) -> AcceleratorConfig:
    """`tiny` with an array of rows × rows and depthwise tiles."""
    plain = AcceleratorConfig.load("tiny")
    return dataclasses.replace(
        plain,
        name=name,
        array=dataclasses.replace(
            plain.array,
            rows=rows,
            cols=rows,
            activation_bits=17,
            weight_bits=16,
            weight_rows_per_cycle=max(1, rows // 4),
        ),
        memory=dataclasses.replace(
            plain.memory,
            **{"accumulator_rows": 256, "transformed_rows": 256, **memory},
        ),
        port=dataclasses.replace(plain.port, bytes=rows),
        lanes=dataclasses.replace(plain.lanes, requantize=4, vector=4, output_transform=4),
        features=ALL,
    )


FOUR, EIGHT = _square("four", 4), _square("eight", 8, weight_bytes=8192)
SIXTEEN = _square("sixteen", 16, weight_bytes=1 << 14, activation_bank_rows=1024)
TWICE = dataclasses.replace(FOUR, name="twice", array=dataclasses.replace(FOUR.array, cols=8))
WITHOUT = dataclasses.replace(EIGHT, name="without", features=ALL[:3])
CONFIGS = {c.name: c for c in (FOUR, EIGHT, SIXTEEN, TWICE)}
TILES, TYPED = "F(2×2,3×3)", "F(2x2,3x3)"
UNEVEN = {"pad_begin": (0, 2, 0), "pad_end": (0, 1, 2)}
CASES = {
    "even": ((8, 1, 8, 8), SAME),
    "odd, frames": ((5, 3, 7, 9), SAME),
    "no padding": ((9, 2, 6, 5), {}),
    "unequal padding": ((4, 1, 5, 6), UNEVEN),
    "padded in time": ((3, 2, 4, 5), {"pad_begin": (1, 1, 1), "pad_end": (0, 1, 1)}),
    "a single pixel": ((6, 1, 1, 1), SAME),
    "a line": ((6, 1, 1, 9), SAME),
    "many channels": ((71, 1, 4, 3), SAME),
    "cut in tiles": ((4, 1, 41, 37), SAME),
}


def layer(shape, attributes, signed=False, kernel=(1, 3, 3)):
    return conv(shape, shape[0], kernel, {**attributes, "groups": shape[0]}, signed)


def built(case, config=EIGHT, policy=None):
    return generate(layer(*CASES[case]), config, policy=policy or Policy(TYPED))


def arrays(program) -> list[Array]:
    return [i for i in program.instructions if isinstance(i, Array)]


# Values


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", CASES)
def test_forced_tiles_give_the_same_results(case, name):
    config = CONFIGS[name]
    for signed in (False, True):
        graph = layer(*CASES[case], signed)
        program = generate(graph, config, policy=Policy(TYPED))
        assert modes(program) == {ArrayMode.HFA_DEPTHWISE}
        assert record(program)["chosen"] == TILES
        assert execute(graph, config, program).differing() == []


def _file(tmp_path, shape, pads, channels):
    """A quantized ONNX file of one depthwise convolution with clamped results."""
    rng = np.random.default_rng(2)
    taps = (3, 3) if len(shape) == 4 else (1, 3, 3)
    w = rng.integers(-127, 128, (channels, 1, *taps)).astype(np.int8)
    bias = rng.integers(-9000, 9000, channels).astype(np.int32)
    model = conv_model(
        shape, w, Q(0.04, 131), Q(0.002, 0, np.int8), Q(0.05, 110), bias, relu=True,
        pads=pads, group=channels,
    )  # fmt: skip
    onnx.save(model, str(tmp_path / "layer.onnx"))
    return tmp_path / "layer.onnx"


FILES = {
    "map": ((1, 11, 9, 7), [1, 1, 1, 1]),
    "clip": ((1, 5, 3, 6, 5), [0, 1, 1, 0, 1, 1]),
    "uneven": ((1, 6, 2, 5, 8), [0, 2, 0, 0, 1, 1]),
}


@pytest.mark.parametrize("asked", ["auto", TYPED])
@pytest.mark.parametrize("config", [FOUR, EIGHT], ids=lambda c: c.name)
@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_what_the_oracle_says(tmp_path, name, config, asked):
    shape, pads = FILES[name]
    path = _file(tmp_path, shape, pads, shape[1])
    imported = import_onnx(path).graph
    graph = pipeline.optimize(imported, True, pipeline.back_end_accepts(config))
    program = generate(graph, config, policy=Policy(asked))
    assert modes(program) == {ArrayMode.HFA_DEPTHWISE}
    run = execute(graph, config, program)
    (port,) = graph.inputs
    oracle = Reference(path).run({port.onnx_name: feeds_of(graph)[port.value]})
    output = program.tensor(program.outputs[0].tensor)
    assert np.array_equal(read(run.memory, output), oracle[output.name])
    wrong = execute(graph, config, _damaged(program, config))
    assert not np.array_equal(read(wrong.memory, output), oracle[output.name])


def _damaged(program, config):
    """The program with the tap in the middle of the first channel's window changed."""
    load = next(i for i in program.instructions if isinstance(i, Load) and i.space == Space.WEIGHT)
    image = dict(program.image)
    taps = bytearray(image[load.dram])
    taps[4 * config.array.cols] ^= 0x7F
    image[load.dram] = bytes(taps)
    return dataclasses.replace(program, image=tuple(image.items()))


WRONG = {
    "weight": lambda a: {"weight": a.weight + 1},
    "zero point": lambda a: {"zero_point": a.zero_point ^ 4},
    "start": lambda a: {"starts": (a.starts[0] + 1, *a.starts[1:])},
    "bound": lambda a: {"bounds": (a.bounds[0], a.bounds[1] - 1, a.bounds[2])},
    "activation": lambda a: {"activation": a.activation + 1},
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_field_is_seen(name):
    graph = layer(*CASES["odd, frames"])
    program = built("odd, frames")
    code = list(program.instructions)
    at = next(n for n, i in enumerate(code) if isinstance(i, Array))
    code[at] = dataclasses.replace(code[at], **WRONG[name](code[at]))
    try:
        run = execute(graph, EIGHT, dataclasses.replace(program, instructions=tuple(code)))
    except (MachineError, HazardError):
        return
    assert run.differing() == ["y"]


def test_the_program_names_its_features():
    begin = built("even").instructions[0]
    assert isinstance(begin, Begin)
    assert {f for n, f in enumerate(FEATURES) if begin.features >> n & 1} == set(ALL) - {"vector"}


# The choice


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", ["odd, frames", "cut in tiles"])
def test_the_objective_decides(case, name, objective):
    program = built(case, CONFIGS[name], Policy("auto", objective))
    said = record(program)
    ways, key = said["candidates"], "energy_uj" if objective == "energy" else objective
    assert set(ways) == {"direct", TILES}
    assert ways[said["chosen"]][key] == min(way[key] for way in ways.values())
    tiled = said["chosen"] == TILES
    assert modes(program) == {ArrayMode.HFA_DEPTHWISE if tiled else ArrayMode.DEPTHWISE}
    assert bool(said["reason"]) is not tiled
    if objective == "multiplications" or (objective == "cycles" and name != "sixteen"):
        assert tiled
    if objective == "cycles" and name == "sixteen":
        assert said["reason"].startswith("cycles: ") and not tiled


@pytest.mark.parametrize("asked", ["off", TYPED])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("case", CASES)
def test_recorded_multiplications_are_those_of_the_counter(case, name, asked):
    config = CONFIGS[name]
    program = built(case, config, Policy(asked))
    way = record(program)["candidates"][record(program)["chosen"]]
    counted = [array_products(a, config) * config.array.multipliers for a in arrays(program)]
    assert way["multiplications"] == sum(counted)
    assert way["multiplications"] != sum(counted[1:])


@pytest.mark.parametrize("asked", ["off", TYPED])
@pytest.mark.parametrize("name", ["four", "eight", "sixteen"])
def test_estimates_are_near_the_models(name, asked):
    """Energy of the counted actions but the instructions' own; cycles less what hides behind."""
    config = CONFIGS[name]
    graph = layer((24, 2, 41, 37), SAME)
    program = generate(graph, config, policy=Policy(asked))
    said = record(program)
    way = said["candidates"][said["chosen"]]
    cycles = CycleBackend().run(program, config, program.memory(), Options()).cycles
    assert 0.95 * cycles <= way["cycles"] <= cycles
    actions: Counter = Counter()
    for instruction in program.instructions:
        actions += count_actions(instruction, config)
    parts = EnergyTable.load("asic_45nm").joules(actions, config)
    total = 1e6 * (sum(parts.values()) - parts[COMPONENTS[Action.FETCH]])
    assert 0.95 * total <= way["energy_uj"] <= 1.03 * total


@pytest.mark.parametrize(
    ("config", "policy", "kernel", "attributes", "words"),
    [
        (WITHOUT, "auto", (1, 3, 3), SAME, "configuration without is built without hfa_depthwise"),
        (EIGHT, "off", (1, 3, 3), SAME, "switched off (--hfa off)"),
        (EIGHT, "F(4x4,3x3)", (1, 3, 3), SAME, "a depthwise layer can only have F(2×2,3×3)"),
        (EIGHT, "auto", (1, 3, 3), {**SAME, "stride": (1, 1, 2)}, "stride 2 along x"),
        (EIGHT, TYPED, (1, 3, 3), {"stride": (2, 1, 1)}, "stride 2 along t"),
        (EIGHT, "auto", (3, 1, 1), {}, "a depthwise kernel of 3×1×1 instead of 1×3×3"),
        (EIGHT, "auto", (1, 3, 2), {}, "a depthwise kernel of 1×3×2 instead of 1×3×3"),
    ],
)
def test_what_stays_direct_says_why(config, policy, kernel, attributes, words):
    graph = layer((9, 3, 6, 7), attributes, kernel=kernel)
    program = generate(graph, config, policy=Policy(policy))
    assert modes(program) == {ArrayMode.DEPTHWISE}
    assert record(program)["chosen"] == "direct"
    assert words in record(program)["reason"]
    assert "not transformed: " in print_choices(program)
    assert execute(graph, config, program).differing() == []


def test_a_line_longer_than_the_line_buffer_is_cut():
    """Whole tiles of a line of 16 entries: 14 results, not 15."""
    memory = dataclasses.replace(EIGHT.memory, line_pixels=16)
    config = dataclasses.replace(EIGHT, memory=memory)
    graph = layer((8, 1, 6, 45), SAME)
    program = generate(graph, config, policy=Policy(TYPED))
    assert max(a.counts[0] for a in arrays(program)) <= 16
    assert execute(graph, config, program).differing() == []


def test_off_is_the_program_of_a_machine_without():
    graph = layer(*CASES["cut in tiles"])
    plain = generate(graph, WITHOUT).instructions[1:]
    assert generate(graph, EIGHT, policy=Policy("off")).instructions[1:] == plain
    assert generate(graph, EIGHT).instructions[1:] != plain


@pytest.mark.parametrize(
    ("shape", "cycles"), [((16, 1, 8, 8), {4: 3, 8: 2, 16: 1}), ((16, 1, 7, 7), {})]
)
def test_the_roofline_follows_the_tiles(shape, cycles):
    """One result of a whole tile per cycle, and no less than the bytes take."""
    for config in (FOUR, EIGHT, SIXTEEN):
        direct, tiled = (
            generate(layer(shape, SAME), config, policy=Policy(asked)).layers[0].roofline_cycles
            for asked in ("off", TYPED)
        )
        rows = config.array.rows
        port = -(-16 // rows) * 2 * shape[2] * shape[3]
        assert tiled <= direct
        assert tiled >= port
        if cycles:
            assert direct >= cycles[rows] * 64 * (16 // rows)
