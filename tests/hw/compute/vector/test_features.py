"""Without the feature fold the vector unit has nothing of it; with it every shape can be built."""

from __future__ import annotations

import re

import pytest
from amaranth.back import rtlil

from hw.arch.config import AcceleratorConfig
from hw.compute.vector.unit import VectorUnit
from tests.machines import folding, plain
from tests.marks import large

pytestmark = pytest.mark.rtl


def registers(config: AcceleratorConfig) -> int:
    """Flip-flops of the unit as it is described."""
    text = rtlil.convert(VectorUnit(config), name="vector", emit_src=False)
    cells = re.findall(r"cell \$(?:s|a)?dff\w* .*?\n(.*?)\n    end", text, re.DOTALL)
    modules = re.split(r"^module ", text, flags=re.MULTILINE)[1:]
    bits = {}
    inside: dict[str, list[str]] = {}
    for module in modules:
        name = module.split()[0]
        found = re.findall(r"cell (\S+) .*?\n(.*?)^  end$", module, re.DOTALL | re.MULTILINE)
        flops = (c for kind, c in found if re.match(r"\$(s|a)?dff", kind))
        widths = (re.search(r"parameter \\WIDTH (\d+)", cell) for cell in flops)
        bits[name] = sum(int(width[1]) for width in widths if width)
        inside[name] = [kind for kind, _ in found if kind.startswith("\\")]

    def total(name: str) -> int:
        return bits[name] + sum(total(part) for part in inside[name])

    assert cells
    return total("\\vector")


BEFORE = {"tiny_direct": 7768, "ecp5_85k": 5207, "base": 28622}
"""Of the unit before it had FOLD and PERMUTE."""


@pytest.mark.parametrize("preset", ["tiny_direct", *map(large, ("ecp5_85k", "base"))])
def test_without_the_feature_nothing_is_added(preset):
    assert registers(plain(preset)) == BEFORE[preset]


def test_twin_the_feature_has_registers():
    assert registers(folding("tiny_direct", attention=False)) > BEFORE["tiny_direct"] + 500


@pytest.mark.parametrize("preset", ["tiny", *map(large, ("ecp5_85k", "large"))])
def test_every_shape_can_be_built(preset):
    """`large` has rows of 32 lanes: it has FOLD and `spread`, and refuses PERMUTE."""
    config = folding(preset, attention=False)
    text = rtlil.convert(VectorUnit(config), name="vector", emit_src=False)
    assert "module \\vector.fold" in text
