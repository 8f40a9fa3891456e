"""docs/configuration.md is what the generator writes, and says what the configurations check."""

from __future__ import annotations

import dataclasses
import json

import pytest

from hw.__main__ import main
from hw.arch.codes import FEATURES
from hw.arch.config import CONFIG_DIRECTORY, AcceleratorConfig, ConfigError
from hw.arch.config_guide import BRING, GUIDES, PAGE, PARTS, page


def test_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run `python -m hw.arch.config_guide`"


def test_every_field_has_its_row():
    fields = [f"{part}.{f.name}" for part, kind in PARTS.items() for f in dataclasses.fields(kind)]
    fields += [f.name for f in dataclasses.fields(AcceleratorConfig) if f.name not in PARTS]
    assert sorted(guide.field for guide in GUIDES) == sorted(set(fields) - {"name"})
    assert set(BRING) == set(FEATURES)


def changed(field, value):
    base = dataclasses.asdict(AcceleratorConfig.load("base"))
    part, _, name = field.rpartition(".")
    (base[part] if part else base)[name] = list(value) if isinstance(value, tuple) else value
    return base


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.field)
def test_what_the_page_allows_and_refuses(guide):
    for value in guide.good:
        AcceleratorConfig.from_mapping(changed(guide.field, value))
    assert guide.bad
    for value in guide.bad:
        with pytest.raises(ConfigError):
            AcceleratorConfig.from_mapping(changed(guide.field, value))


BASE = (CONFIG_DIRECTORY / "base.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("rows: 16,", "rows: 7,", 2, "array.rows must be a power of two in 4..32, not 7"),
        ("rows: 16,", "rowz: 16,", 2, "array has no 'rowz'; there are rows, cols, activation_bits"),
        ("rows: 16,", "rows: sixteen,", 2, "array.rows is 'sixteen', not an integer"),
        ("weight_bytes: 131072", "weight_bytes: 100", 6, "memory.weight_bytes must be a power of"),
        ("bytes: 16}", "bytes: 8}", 12, "port.bytes is 8 but a scratchpad row has array.rows = 16"),
        ("lanes:", "lames:", 13, "the file has no 'lames'; there are name, array, memory"),
        ("hfa_nested", "hfa_nester", 14, "unknown feature 'hfa_nester'; known: depthwise, vector"),
    ],
)
def test_errors_name_line_and_allowed_values(tmp_path, old, new, line, message):
    path = tmp_path / "mine.yaml"
    path.write_text(BASE.replace(old, new, 1))
    with pytest.raises(ConfigError) as error:
        AcceleratorConfig.load(path)
    words = str(error.value)
    assert words.startswith(f"{path}, line {line}: {message}")
    assert "dataclass" not in words and "TypeError" not in words and "<" not in words


def test_command_prints_what_follows(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text((CONFIG_DIRECTORY / "ecp5_85k_direct.yaml").read_text())
    assert main(["config", str(path)]) == 0
    out = capsys.readouterr().out
    assert "multipliers" in out and "64: 8 × 8" in out and "what fits where" in out
    assert "3 of 8 lanes" in out and "F(4×4,3×3)" not in out
    assert main(["config", "base", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["sizes"]["activation scratchpad"] == "256 KiB: 8 banks of 2048 rows"
    assert content["sizes"]["weight scratchpad"] == "128 KiB: 8192 beats"
    assert content["sizes"]["accumulators"] == "2 × 72 KiB: 1024 rows each"
    assert content["config"]["array"]["rows"] == 16
    path.write_text(BASE.replace("{requantize: 16, vector: 16, output_transform: 16}", "5"))
    assert main(["config", str(path)]) == 2
    assert capsys.readouterr().err == f"error: {path}, line 13: lanes is 5, not a mapping\n"
