"""docs/operators.md is what the generator writes, and has every operator and limit."""

from __future__ import annotations

import dataclasses

import pytest

from compiler import lower, operators
from compiler.frontend.catalogue import FORMS
from compiler.lower import windows
from compiler.ops import Pool
from compiler.tile.limits import MAX_REDUCE_WINDOW, MAX_STRIDE
from hw.arch.config import AcceleratorConfig
from proof.limits import LIMITS
from proof.operators import PAGE, main, page


def test_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run `python -m proof.operators`"


def test_page_names_everything(tmp_path):
    main([str(tmp_path / "operators.md")])
    text = (tmp_path / "operators.md").read_text()
    for form in FORMS:
        section = text.split(f"### {', '.join(form.operators)}\n")[1].split("\n##")[0]
        for name in (*form.reads, *form.ignored):
            assert f"`{name}`" in section
        assert LIMITS[form.deviation].steps == 0 or "1 step within" in section
    for name in operators.ELEMENTWISE | operators.PREPROCESSING:
        assert f"`{name}`" in text or f"### {name}" in text
    conv, pool = (text.split(f"### {name}\n")[1].split("\n##")[0] for name in ("Conv", "MaxPool"))
    assert f"stride {MAX_STRIDE};" in conv and f"windows of {MAX_REDUCE_WINDOW}" in pool


def test_a_changed_limit_changes_the_page(monkeypatch):
    pool = lower.lowerings()[Pool]
    assert pool.limits is windows.LIMITS
    monkeypatch.setattr(type(pool), "limits", ("windows of 7",))
    assert page() != PAGE.read_text()


@pytest.mark.parametrize("preset", ["tiny_direct", "base"])
def test_capacities_are_the_last_that_run(preset):
    config = AcceleratorConfig.load(preset)
    for capacity in operators.capacities(config):
        assert capacity.most is not None
        make = operators.PROBES[capacity.what]
        for size, runs in ((capacity.most, True), (capacity.most + 1, False)):
            if size > operators.MOST:  # where the search ends
                continue
            op, source, result = make(size)
            assert (lower.refusal(op, [source], result, config) is None) is runs


def test_memory_decides_capacities():
    config = AcceleratorConfig.load("tiny_direct")
    bank = config.memory.activation_bank_rows // 2
    memory = dataclasses.replace(config.memory, activation_bank_rows=bank)
    halved = dataclasses.replace(config, memory=memory)
    full, half = (list(operators.capacities(c)) for c in (config, halved))
    assert all(h.most < f.most for h, f in zip(half, full, strict=True))
