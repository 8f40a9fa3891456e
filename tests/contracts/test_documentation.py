"""docs/isa.md is what the generator writes, and names everything."""

from __future__ import annotations

from hw.arch.documentation import PAGE, main, page
from hw.arch.isa import CLASSES, ErrorCode
from hw.arch.registers import COUNTERS, Register


def test_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run `python -m hw.arch.documentation`"


def test_page_names_every_field_code_and_register(tmp_path):
    main([str(tmp_path / "isa.md")])
    text = (tmp_path / "isa.md").read_text()
    for kind in CLASSES.values():
        section = text.split(f"### {kind.OPCODE.name}\n")[1].split("\n### ")[0]
        for field in kind.layout():
            assert f"`{field.name}`" in section
            assert field.doc in section
    for name in [c.name for c in ErrorCode] + [r.name for r in Register] + list(COUNTERS):
        assert name in text
