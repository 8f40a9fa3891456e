"""What a STORE wrote is copied before a later one writes over it, though not yet done by then."""

import numpy as np
import pytest

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Load, Store
from sim.backend import Options
from sim.backends import make_backend
from sim.cosim import job, verilate
from sim.cosim.backend import job_of
from tests.ladder.linking import DATA, OUTPUT, begin, halt, link, place_waits

pytestmark = pytest.mark.cosim

CONFIG = AcceleratorConfig.load("tiny")
BYTES = CONFIG.port.bytes
BANK = CONFIG.memory.activation_bank_rows


def test_a_store_behind_another_at_once_to_the_same_place():
    rows = np.random.default_rng(2).integers(0, 256, (2, BYTES), dtype=np.uint8)
    body = [
        *(Load(dram=DATA + n * BYTES, local=n * BANK) for n in range(2)),
        *(Store(dram=OUTPUT, local=n * BANK) for n in range(2)),
    ]
    code = [begin(CONFIG), *place_waits(body, CONFIG), halt()]
    program = link(CONFIG, code, [(DATA, rows.tobytes())])
    keep = [job.Keep(beats, OUTPUT, BYTES) for beats in (1, 2)]
    result = job.run(verilate.build(CONFIG), job_of(program), program.memory(), keep=keep)
    assert result.kept[0].tolist() == rows[0].tolist()
    # Twin: a copy that is a beat late has the other one's.
    assert result.kept[1].tolist() == rows[1].tolist()
    lines = make_backend("cycle").run(program, CONFIG, program.memory(), Options()).timeline
    assert lines is not None
    assert lines.issue[3] < lines.end[2], "the second begins before the first is done"
