"""Configurations: presets, limits that are named, fingerprints."""

from __future__ import annotations

import dataclasses
import re

import pytest

from hw.arch.config import (
    CONFIG_DIRECTORY,
    FEATURES,
    TRANSFORM_BITS,
    AcceleratorConfig,
    ConfigError,
)
from hw.arch.winograd import ALGORITHMS, Pixels
from tests.machines import folding, plain

PRESETS = sorted(p.stem for p in CONFIG_DIRECTORY.glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_consistent(name):
    config = AcceleratorConfig.load(name)
    assert config.name == name
    assert config.weight_block_beats * config.port.bytes == config.array.multipliers
    assert config.weight_block_groups * config.weight_group_beats == config.weight_block_beats
    assert config.requantize_steps * config.lanes.requantize == config.array.cols
    parameter_bytes = config.parameter_rows * config.parameter_row_beats * config.port.bytes
    assert parameter_bytes == 8 * config.memory.parameter_columns
    assert AcceleratorConfig.load(CONFIG_DIRECTORY / f"{name}.yaml") == config


def test_fingerprints_tell_configurations_apart():
    prints = {AcceleratorConfig.load(name).fingerprint for name in PRESETS}
    assert len(prints) == len(PRESETS)
    tiny = AcceleratorConfig.load("tiny")
    assert dataclasses.replace(tiny, name="other").fingerprint == tiny.fingerprint
    swapped = dataclasses.replace(tiny, features=tuple(reversed(tiny.features)))
    assert swapped.fingerprint == tiny.fingerprint
    assert dataclasses.replace(tiny, queue_depth=8).fingerprint != tiny.fingerprint
    # What the compiler expects of memory is no part of the circuit, all else of the port is.
    for change, same in (({"rate": 0.5, "gap": 7}, True), ({"outstanding": 4}, False)):
        port = dataclasses.replace(tiny.port, **change)
        other = dataclasses.replace(tiny, port=port)
        assert (other.fingerprint == tiny.fingerprint) == same
        assert other != tiny
    memory = dataclasses.replace(tiny.memory, accumulator_bits=35)
    assert dataclasses.replace(tiny, memory=memory).fingerprint != tiny.fingerprint


def test_feature_mask_has_one_bit_each():
    whole = folding("tiny")
    assert set(whole.features) == set(FEATURES)
    assert whole.feature_mask == (1 << len(FEATURES)) - 1


LIMITS = [
    ("array", {"rows": 3}, "array.rows must be a power of two in 4..32, not 3"),
    ("array", {"cols": 2}, "array.cols must be .* not 2"),
    ("array", {"activation_bits": 8}, "activation_bits must be 9..18, not 8"),
    ("array", {"weight_rows_per_cycle": 8}, "up to rows .4., not 8"),
    ("memory", {"activation_banks": 7}, "memory.activation_banks must be a power of two, not 7"),
    ("memory", {"activation_bank_rows": 1 << 14}, "131072 rows; the ISA addresses 65536"),
    ("memory", {"accumulator_rows": 4096}, "is 4096; the ISA addresses 2048"),
    ("memory", {"line_pixels": 8192}, "line_pixels is 8192; the ISA addresses 4096"),
    ("memory", {"tables": 16}, "tables is 16; the ISA addresses 15"),
    ("memory", {"accumulator_bits": 31}, "must be 32..48, not 31"),
    ("memory", {"weight_bytes": 8}, "does not hold whole weight blocks of 16 bytes"),
    ("port", {"bytes": 8}, "must be equal"),
    ("port", {"max_burst": 512}, "max_burst must be .* not 512"),
    ("port", {"outstanding": 0}, "outstanding must be 1..16, not 0"),
    ("port", {"store_fifo": 16}, "store_fifo must be .* not 16"),
    ("port", {"store_fifo": 8192}, "two bursts .32., at most 4096 rows, not 8192"),
    ("port", {"rate": 0.0}, "rate must be 0.01 to 1 beats a cycle, not 0.0"),
    ("port", {"gap": 65}, "gap must be 0 to 64 cycles, not 65"),
    ("lanes", {"requantize": 3}, "lanes.requantize must divide array.rows .4., not 3"),
]


@pytest.mark.parametrize(("section", "change", "message"), LIMITS)
def test_limits_are_named(section, change, message):
    refused(plain("tiny"), section, change, message)


def refused(config, section, change, message):
    content = dataclasses.asdict(config)
    AcceleratorConfig.from_mapping(content)
    if section:
        content[section].update(change)
    else:
        content.update(change)
    with pytest.raises(ConfigError, match=message):
        AcceleratorConfig.from_mapping(content)


TRANSFORM_LIMITS = [
    (
        "memory",
        {"accumulator_bits": 37},
        "is 37; the exact division of feature .hfa. takes at most 36",
    ),
    ("array", {"activation_bits": 15}, "is 15; feature 'hfa_nested' needs at least 16"),
    ("array", {"weight_bits": 13}, "weight_bits is 13; feature 'hfa' needs at least 14"),
    ("memory", {"transformed_rows": 128}, "is 128; one tile has up to 144 points"),
    ("memory", {"transformed_rows": 200}, "must be a power of two up to 4096 or 0, not 200"),
    ("lanes", {"output_transform": 0}, "must divide lanes.requantize .4., not 0"),
    ("lanes", {"output_transform": 3}, "must divide lanes.requantize .4., not 3"),
    ("", {"features": ("hfa_nested",)}, "'hfa_nested' needs feature 'hfa'"),
    ("", {"features": ("vector",)}, "output_transform is 4, but feature 'hfa' is off"),
]


@pytest.mark.parametrize(("section", "change", "message"), TRANSFORM_LIMITS)
def test_limits_of_transforms_are_named(section, change, message):
    refused(AcceleratorConfig.load("tiny"), section, change, message)


ATTENTION_LIMITS = [
    ("memory", {"tables": 4}, "memory.tables is 4; feature 'fold' needs at least 8"),
    ("memory", {"weight_bytes": 32}, "does not hold a weight block of 16 bytes in each of 4 banks"),
    ("array", {"weight_bits": 8}, "weight_bits is 8; feature 'attention' needs at least 9"),
    ("", {"features": ("vector", "attention")}, "'attention' needs feature 'fold'"),
]


@pytest.mark.parametrize(("section", "change", "message"), ATTENTION_LIMITS)
def test_limits_of_attention_are_named(section, change, message):
    refused(folding("tiny_direct", weight_bits=9), section, change, message)


def test_banks_of_weights():
    assert AcceleratorConfig.load("base_direct").weight_banks == 1
    base = folding("base")
    assert (base.weight_banks, base.weight_bank_beats) == (4, 2048)
    assert folding("base", attention=False).weight_bank_beats == 8192


def test_operand_widths_are_what_the_algorithms_need():
    for feature, widths in TRANSFORM_BITS.items():
        algorithms = [
            a
            for a in ALGORITHMS
            if (a.temporal, a.spatial) != (2, 2)
            and (feature == "hfa_nested" or not (a.temporal and a.spatial))
        ]
        needed = (
            max(a.input_bits(Pixels.RAW) for a in algorithms),
            max(a.weight_bits() for a in algorithms),
        )
        assert widths == needed


TEXT = (CONFIG_DIRECTORY / "tiny.yaml").read_text()


def loaded(tmp_path, content, name="c.yaml"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return AcceleratorConfig.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", r"is not YAML: .* in line 1, column 5"),
        ("a: b: c", "is not YAML: mapping values are not allowed here in line 1, column 5"),
        ("array:\n\t{rows: 4}", r"is not YAML: .*\\t.* in line 2, column 1"),
        ("- 1", "must hold a mapping"),
        ("", "must hold a mapping"),
        ("tiny", "must hold a mapping"),
        (b"\xff\xfe\xfd", "is not YAML: 'utf-8' codec can't decode"),
        ("queue_depth: 0x_\n" + TEXT, "is not YAML"),
        ("when: 2026-99-99\n" + TEXT, "is not YAML: month must be in 1..12"),
        ("[" * 3000, "is not YAML"),
        (TEXT + "colour: red\n", "the file has no 'colour'; there are name, array, memory"),
        (TEXT + "7: red\n", "has the key 7, which is no name"),
        (TEXT.replace("port:", "harbour:"), "has no 'harbour'"),
        (TEXT.replace("port: {bytes: 4, max_burst: 16, store_fifo: 32}\n", ""), "lacks 'port'"),
        (TEXT.replace("rows: 4", "rows: four"), "array.rows is 'four', not an integer"),
        (TEXT.replace("rows: 4", "rows: 4.0"), "array.rows is 4.0, not an integer"),
        (TEXT.replace("rows: 4", "rows: true"), "array.rows is True, not an integer"),
        (TEXT.replace("rows: 4", "rows: "), "array.rows is None, not an integer"),
        (TEXT.replace("{bytes: 4,", "{width: 4,"), "port has no 'width'; there are bytes"),
        (TEXT.replace("weight_bytes", "weight_byte"), "memory has no 'weight_byte'"),
        (TEXT.replace("  weight_bytes: 4096\n", ""), "memory lacks 'weight_bytes'"),
        (TEXT.replace("{requantize: 4,", "{requantize: 3,"), "must divide array.rows .4., not 3"),
        (TEXT + "queue_depth: 8\n", "the key 'queue_depth' stands there twice in line 16"),
        (TEXT.replace("rows: 4,", "rows: 4, rows: 8,"), "the key 'rows' stands there twice"),
        (TEXT.replace("attention]", "wings]"), "unknown feature 'wings'"),
        (TEXT.replace("attention]", "hfa]"), "name one twice"),
        (
            TEXT.replace("[depthwise,", "[[depthwise],"),
            r"features\[0\] is \['depthwise'\], not text",
        ),
        (TEXT.replace("features: ", "features: all #"), "features is 'all', not a list"),
        (TEXT.replace("parameter_columns: 64", "parameter_columns: 2"), "takes array.cols = 4"),
        (TEXT + "name: ../../tiny\n", "name is '../../tiny'; it must be 1 to 64 letters"),
        (TEXT + "name: a/b\n", "name is 'a/b'"),
        (TEXT + "name: ''\n", "name is ''"),
        (TEXT + "name: tiny.yaml\n", "name is 'tiny.yaml'"),
        (TEXT + "name: 7\n", "name is 7, not text"),
    ],
)
def test_bad_files_are_refused(tmp_path, content, message):
    with pytest.raises(ConfigError, match=message) as error:
        loaded(tmp_path, content)
    where = re.escape(str(tmp_path / "c.yaml"))
    assert re.match(rf"{where}(, line \d+)?: ", str(error.value)) and "\n" not in str(error.value)


def test_files_that_are_not_there_and_names_that_are_not_names(tmp_path):
    with pytest.raises(ConfigError, match="presets: base"):
        AcceleratorConfig.load("tinny")
    with pytest.raises(ConfigError, match=r"name is 'my config'; .* without `name` lends its own"):
        loaded(tmp_path, TEXT, "my config.yaml")
    named = loaded(tmp_path, TEXT + "name: my-config_2\n", "my config.yaml")
    assert named == dataclasses.replace(AcceleratorConfig.load("tiny"), name="my-config_2")


def test_flipped_bits_are_refused_or_another_configuration(tmp_path):
    """Whatever loads is a configuration whose every derived number exists."""
    data = TEXT.encode()
    tiny = loaded(tmp_path, data)
    found = {"refused": 0, "equal": 0, "other": 0}
    for at in range(len(data)):
        for bit in {at % 8, (at + 3) % 8}:
            try:
                config = loaded(tmp_path, data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :])
            except ConfigError as error:
                assert "\n" not in str(error)
                found["refused"] += 1
                continue
            for name, value in vars(AcceleratorConfig).items():
                if isinstance(value, property):
                    assert getattr(config, name) is not None
            assert AcceleratorConfig.from_mapping(dataclasses.asdict(config)) == config
            found["equal" if config == tiny else "other"] += 1
    assert found["refused"] > 600 and found["equal"] > 50 and found["other"] >= 1


def test_an_index_takes_two_vector_lanes():
    config = folding("tiny")
    lanes = dataclasses.replace(config.lanes, vector=1)
    with pytest.raises(ConfigError, match=r"lanes\.vector is 1; feature 'fold' needs at least 2"):
        dataclasses.replace(config, lanes=lanes)
