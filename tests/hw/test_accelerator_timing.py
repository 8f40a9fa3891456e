"""Every control and memory constant of hw/arch/timing.py, measured from outside the core.

Cycle 0 is the host's write of START. All events are on the AXI4 port or the issue and done
strobes, so that a wrong constant shows as a wrong difference.
"""

import random

import pytest

from hw.arch import timing
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import (
    INSTRUCTION_BYTES,
    Array,
    Begin,
    Branch,
    Drain,
    Elementwise,
    Fence,
    Load,
    Scalar,
    Set,
    Store,
    Unit,
    deltas,
)
from hw.timeline.model import CoreModel
from hw.timeline.port import UniformMemory
from sim.functional.sequencer import Sequencer
from tests.hw.bench import HALT, PROGRAM_BASE, ArrayStandIn, DrainStandIn, run, waits

pytestmark = pytest.mark.rtl
TINY = AcceleratorConfig.load("tiny_direct")
BEATS = INSTRUCTION_BYTES // TINY.port.bytes
BURST = TINY.port.max_burst
TAKEN = timing.BEAT_LATENCY + timing.FETCH_VISIBLE
DISPATCHED = TAKEN + timing.TAKE_TO_DISPATCH
TAKE_TO_TAKE = timing.TAKE_TO_DISPATCH + 1


def beats(result, kind, address):
    """Cycles of the beats of the burst at an address."""
    return [cycle for cycle, name, start in result.bus if name == kind and start == address]


def arrived(result, index):
    """Cycle of the last beat of an instruction (a burst holds one in this configuration)."""
    assert BURST == BEATS
    return beats(result, "R", PROGRAM_BASE + INSTRUCTION_BYTES * index)[-1]


def at(log, unit):
    return [cycle for cycle, who in log if who == unit]


def test_start_fetch_and_dispatch():
    result = run([Drain(), Drain(), Drain(), HALT])
    asks = [cycle - timing.GRANT_LATENCY for cycle in result.cycles_of("AR")]
    first = timing.START_LATENCY + timing.FETCH_ASK
    # A request is still up when it is granted, hence one cycle more between requests.
    assert asks == [first + (1 + timing.FETCH_ASK) * k for k in range(5)]
    issue = arrived(result, 1) + DISPATCHED + timing.QUEUE_LATENCY
    assert at(result.issue, Unit.DRAIN)[0] == issue
    assert at(result.done, Unit.DRAIN)[0] == issue + DrainStandIn.CYCLES
    # QUIESCE lasts one cycle.
    halt = max(
        at(result.done, Unit.DRAIN)[-1] + timing.TOKEN_LATENCY, arrived(result, 4) + DISPATCHED
    )
    assert result.counters["cycles"] == halt + timing.HALT_LATENCY + 2 - timing.START_LATENCY


def test_straight_line_code_dispatches_every_three_cycles():
    """While ARRAY holds back the sequencer at a FENCE, the FIFO fills; then it is unpaced."""
    units = [Drain(), Elementwise(), Drain(), Elementwise(), Drain()]
    result = run([Array(), Array(), Array(), Fence(), *units, HALT])
    done = at(result.done, Unit.ARRAY)[-1]
    assert arrived(result, 4 + len(units)) < done - 10, "the FIFO did not run ahead"
    fence = done + timing.TOKEN_LATENCY
    issues = sorted(at(result.issue, Unit.DRAIN) + at(result.issue, Unit.VECTOR))
    first = fence + 1 + timing.TAKE_TO_DISPATCH + timing.QUEUE_LATENCY
    assert issues[:4] == [first + TAKE_TO_TAKE * k for k in range(4)]


@pytest.mark.parametrize("unit", [Unit.ARRAY, Unit.DRAIN])
def test_a_fence_waits_for_the_units_that_it_names(unit):
    """ARRAY takes longer than DRAIN; nothing of the others holds back a fence."""
    units = [Array(), Array(), Drain(waits=waits(array=1)), Array()]
    result = run([*units, Fence(units=1 << unit), Elementwise(), HALT])
    done = {u: at(result.done, u)[-1] for u in (Unit.ARRAY, Unit.DRAIN)}
    assert arrived(result, 6) < done[Unit.DRAIN] < done[Unit.ARRAY] - 20
    first = done[unit] + timing.TOKEN_LATENCY + 1 + timing.TAKE_TO_DISPATCH + timing.QUEUE_LATENCY
    assert at(result.issue, Unit.VECTOR) == [first]


def test_a_fence_for_an_idle_unit_takes_a_cycle():
    result = run([Array(), Fence(units=1 << Unit.STORE), Elementwise(), HALT])
    plain = run([Array(), Set(rd=1), Elementwise(), HALT])
    assert at(result.issue, Unit.VECTOR) == at(plain.issue, Unit.VECTOR)


def test_load():
    count = 2 * BURST + 3
    result = run([Load(dram=0x100, beats=count), HALT])
    (issue,), (done,) = at(result.issue, Unit.LOAD), at(result.done, Unit.LOAD)
    addresses = [0x100 + BURST * TINY.port.bytes * k for k in range(3)]
    asked = [beats(result, "AR", address)[0] - timing.GRANT_LATENCY for address in addresses]
    assert asked == [issue + timing.LOAD_ASK + k for k in range(3)]
    assert done == beats(result, "R", addresses[-1])[-1] + timing.LOAD_DONE
    assert result.counters["load_busy"] == done - issue
    assert result.counters["load_memory"] == done - issue - count


def test_the_next_load_asks_while_beats_of_the_previous_one_arrive():
    loads = [Load(dram=0x100, beats=BURST), Load(dram=0x400, local=BURST, beats=BURST)]
    result = run([*[Drain()] * 2, Array(), *(wait_for_array(x) for x in loads), HALT])
    first, second = at(result.issue, Unit.LOAD)
    assert first == at(result.done, Unit.ARRAY)[0] + timing.TOKEN_LATENCY
    # The walker is free when its only burst has entered the request register.
    assert second == first + timing.LOAD_ASK
    asks = [beats(result, "AR", x.dram)[0] - timing.GRANT_LATENCY for x in loads]
    assert asks == [first + timing.LOAD_ASK, second + timing.LOAD_ASK]


def wait_for_array(load):
    return Load(waits=waits(array=1), dram=load.dram, local=load.local, beats=load.beats)


def test_store():
    count = BURST + 5
    result = run([Store(dram=0x1000, local=3, beats=count), HALT])
    (issue,), (done,) = at(result.issue, Unit.STORE), at(result.done, Unit.STORE)
    addresses = [0x1000, 0x1000 + BURST * TINY.port.bytes]
    asked = [beats(result, "AW", address)[0] - timing.GRANT_LATENCY for address in addresses]
    read = issue + timing.STORE_READ
    assert asked[0] == read + BURST - 1 + timing.STORE_ASK
    assert asked[1] == read + count - 1 + timing.STORE_ASK
    data = beats(result, "W", addresses[0])
    latency = timing.MemoryTiming().write_latency
    first = asked[0] + timing.GRANT_LATENCY + latency
    assert data == list(range(first, first + BURST)), "W never pauses"
    assert done == beats(result, "B", addresses[-1])[0] + timing.STORE_DONE


def test_a_dependent_instruction_issues_two_cycles_after_done():
    result = run([Load(beats=3), Store(waits=waits(load=1), dram=0x1000, beats=3), HALT])
    done = at(result.done, Unit.LOAD)[0]
    assert at(result.issue, Unit.STORE)[0] == done + timing.TOKEN_LATENCY


def test_jump():
    result = run([Branch(target=3), HALT, Drain(), HALT])
    acts = arrived(result, 1) + DISPATCHED
    stale, wanted = beats(result, "AR", PROGRAM_BASE + 3 * INSTRUCTION_BYTES)
    assert stale < acts
    assert wanted - timing.GRANT_LATENCY == acts + timing.JUMP_TO_ASK
    issue = arrived(result, 3) + DISPATCHED + timing.QUEUE_LATENCY
    assert at(result.issue, Unit.DRAIN) == [issue]


def test_scalar():
    program = [Array(), Scalar(waits=waits(array=1), row=0), Drain(), HALT]
    result = run(program)
    assert arrived(result, 3) < at(result.done, Unit.ARRAY)[0], "the next one is there already"
    read = at(result.done, Unit.ARRAY)[0] + timing.TOKEN_LATENCY
    taken = read + timing.SCALAR_LATENCY + 1
    wanted = taken + timing.TAKE_TO_DISPATCH + timing.QUEUE_LATENCY
    assert at(result.issue, Unit.DRAIN) == [wanted]
    assert at(result.issue, Unit.ARRAY)[0] + ArrayStandIn.CYCLES == read - timing.TOKEN_LATENCY


def test_scalar_that_waits_for_nothing():
    result = run([Array(), Fence(), Scalar(row=0), Drain(), HALT])
    done = at(result.done, Unit.ARRAY)[0]
    assert arrived(result, 4) < done, "the FIFO did not run ahead"
    acts = done + timing.TOKEN_LATENCY + 1 + timing.TAKE_TO_DISPATCH
    taken = acts + timing.SCALAR_RELEASE + timing.SCALAR_LATENCY + 1
    wanted = taken + timing.TAKE_TO_DISPATCH + timing.QUEUE_LATENCY
    assert at(result.issue, Unit.DRAIN) == [wanted]


def test_load_and_store_alternate():
    """Both ask in every cycle: grants alternate as long as slots are free."""
    count = 8 * BURST
    program = [
        Load(dram=0x100, beats=4),
        Array(),
        Load(waits=waits(array=1), dram=0x1000, local=1024, beats=count),
        Store(waits=waits(array=1), dram=0x4000, local=0, beats=count),
        *[Drain()] * 12,
        HALT,
    ]
    result = run(program)
    assert result.error == 0
    grants = [(c, a) for c, name, a in result.bus if name in ("AR", "AW") and 0x1000 <= a < 0x8000]
    order = ["L" if address < 0x4000 else "S" for _, address in sorted(grants)]
    assert order.count("L") == order.count("S") == 8
    first = order.index("S")
    both = order[first : first + 6]
    assert "SS" not in "".join(both), order
    assert max(open_bursts(result)) == TINY.port.outstanding


def transfers(seed, count=30):
    """Loads and stores of some runs each, which wait for nothing and share no byte."""
    generator = random.Random(seed)
    program = []
    for _ in range(count):
        runs, beats = generator.randint(1, 4), generator.choice([1, 3, 20, 70])
        pitch = 4 * generator.randint(beats, beats + 30)
        counts = (runs, 1, 1)
        common = {
            "beats": beats,
            "counts": counts,
            "dram_deltas": deltas(counts, (pitch, 0, 0)),
            "local_deltas": deltas(counts, (beats, 0, 0)),
        }
        if generator.random() < 0.5:
            program.append(Load(dram=4 * generator.randrange(2500), **common))
        else:
            dram = 0x5000 + 4 * generator.randrange(1500)
            program.append(Store(dram=dram, local=1024, **common))
    return [*program, HALT]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.large) for seed in range(1, 6))]
)
def test_transfers_take_the_times_of_the_cycle_model(seed):
    """Whom the memory port grants when: LOAD, STORE and FETCH ask all the time."""
    program = transfers(seed)
    result = run(program)
    assert result.error == 0
    whole = [Begin(TINY.fingerprint, TINY.feature_mask), *program]
    steps = list(Sequencer.of(whole, TINY).steps())
    model = CoreModel(TINY, steps, PROGRAM_BASE, len(whole))
    model.run()
    for unit in (Unit.LOAD, Unit.STORE):
        times = model.units[unit]
        assert at(result.issue, unit) == [timing.START_LATENCY + cycle for cycle in times.issue]
        assert at(result.done, unit) == [timing.START_LATENCY + cycle for cycle in times.done]
    assert len(model.units[Unit.LOAD].done) > 5 and len(model.units[Unit.STORE].done) > 5
    assert result.counters["cycles"] == model.cycles
    memory = UniformMemory(timing.MemoryTiming(read_latency=41))
    late = CoreModel(TINY, steps, PROGRAM_BASE, len(whole), memory)
    late.run()  # the twin: one cycle of latency shows
    assert late.units[Unit.LOAD].done != model.units[Unit.LOAD].done
    assert late.cycles != model.cycles


def open_bursts(result):
    """Bursts between grant and end, over the log's events."""
    count = 0
    ends = {}
    for _, name, address in result.bus:
        ends[name, address] = ends.get((name, address), 0) + 1
        if name in ("AR", "AW"):
            count += 1
        elif name == "B" or (name == "R" and ends[name, address] % length(result, address) == 0):
            count -= 1
        yield count


def length(result, address):
    return max(1, sum(1 for _, name, a in result.bus if name == "R" and a == address))
