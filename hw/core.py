"""The core: everything that a start resets, wired together."""

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, ResetInserter, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Space, Unit
from hw.arch.registers import COUNTERS, SEQUENCER_UNIT
from hw.common.layouts import kept_bits, unit_layout
from hw.common.queue import UnitQueue
from hw.common.register_copy import RegisterCopy
from hw.control.fetch import INDEX_BITS, Fetch
from hw.control.registers import settings_layout
from hw.control.sequencer import Sequencer
from hw.control.supervisor import SOURCES
from hw.memory.activation import ActivationScratchpad
from hw.memory.arbiter import MemoryPort, address_layout
from hw.memory.banked import BankedWeights
from hw.memory.linear import LinearMemory
from hw.memory.load import LoadUnit
from hw.memory.store import StoreUnit

__all__ = ["Core"]


def count_completed(m: Module, completed: Value, reset: Value, done: Value) -> None:
    """Let `completed` count the instructions of a unit that are done since a reset, modulo 2^16."""
    with m.If(reset):
        m.d.sync += completed.eq(0)
    with m.Elif(done):
        m.d.sync += completed.eq(completed + 1)


class Core(wiring.Component):
    """Fetch, sequencer, queues, units, memories and memory port.

    Parameters
    ----------
    config: the accelerator.
    compute: classes of the compute units, each built with `config`.

    Members
    -------
    clear: In; a copy of it per unit resets everything one cycle later.
    run: In; while low nothing new is started. goes_on: In, `run` will be high in the next cycle.
    settings: In(settings_layout).
    ar, aw: Out(stream) of `address_layout`; w: Out(stream) of (data, last).
    r_valid, r_data, r_response, r_last, b_valid, b_response: In; always accepted.
    halt, halt_code, index, dispatched_index: Out, of the sequencer.
    port_idle: Out, no burst is open.
    errors: Out, an ErrorCode per entry of `SOURCES`, for one cycle. Registers, like `halt`.
    issue, done: Out, one bit per `Unit`.
    events: Out, one bit per entry of `COUNTERS`: count in this cycle.
    """

    def __init__(self, config: AcceleratorConfig, compute: dict[Unit, Any]):
        self._config = config
        self._compute = compute
        bits = 8 * config.port.bytes
        super().__init__(
            {
                "clear": In(1),
                "run": In(1),
                "goes_on": In(1),
                "settings": In(settings_layout()),
                "ar": Out(stream.Signature(address_layout())),
                "aw": Out(stream.Signature(address_layout())),
                "w": Out(stream.Signature(data.StructLayout({"data": bits, "last": 1}))),
                "r_valid": In(1),
                "r_data": In(bits),
                "r_response": In(2),
                "r_last": In(1),
                "b_valid": In(1),
                "b_response": In(2),
                "halt": Out(1),
                "halt_code": Out(4),
                "index": Out(INDEX_BITS),
                "dispatched_index": Out(INDEX_BITS),
                "port_idle": Out(1),
                "errors": Out(data.ArrayLayout(6, len(SOURCES))),
                "issue": Out(len(Unit)),
                "done": Out(len(Unit)),
                "events": Out(len(COUNTERS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self._config
        self._port = self._add(m, "port", MemoryPort(config.port))
        self._fetch = self._add(m, "fetch", Fetch(config.port))
        self._sequencer = self._add(m, "sequencer", Sequencer(config))
        self._load, self._store = LoadUnit(config), StoreUnit(config)
        self._units: dict[Unit, Any] = {Unit.LOAD: self._load, Unit.STORE: self._store}
        for unit, kind in self._compute.items():
            if unit is not Unit.VECTOR or "vector" in config.features:
                self._units[unit] = kind(config)

        waiting = self._queues(m)
        errors = [(unit, part.unit.error) for unit, part in self._units.items()]
        errors += self._scratchpad(m)
        errors += self._linear_memories(m)
        errors += self._memory_port(m)
        errors += self._control(m)
        for k, source in enumerate(SOURCES):
            m.d.sync += self.errors[k].eq(0)
            for number, code in errors:
                if number == source:
                    with m.If(code != 0):
                        m.d.sync += self.errors[k].eq(code)
        self._events(m, waiting)
        return m

    def _add(self, m: Module, name: str, part: Any, reset: Value | None = None) -> Any:
        """Make `part` a submodule that `reset` (or a copy of `clear`) resets."""
        if reset is None:
            reset = self._reset_copy(m, name)
        m.submodules[name] = ResetInserter(reset)(part)
        return part

    def _reset_copy(self, m: Module, name: str) -> Value:
        m.submodules[f"reset_{name}"] = copy = RegisterCopy()
        m.d.comb += copy.i.eq(self.clear)
        return copy.o

    def _queues(self, m: Module) -> dict[Unit, Value]:
        """Queues between sequencer and units, and the completion counters."""
        config = self._config
        completed = Signal(data.ArrayLayout(16, len(Unit)))
        reset = self._reset_copy(m, "completed")
        m.d.comb += self._sequencer.completed.eq(completed)
        waiting: dict[Unit, Value] = {}
        for unit in Unit:
            if unit not in self._units:
                continue
            name = unit.name.lower()
            late = unit is Unit.ARRAY and "hfa" in config.features
            queue = UnitQueue(
                unit_layout(unit),
                kept_bits(unit, config.features),
                config.queue_depth,
                Unit.DRAIN if late else None,
            )
            m.submodules[f"queue_{name}"] = queue
            self._add(m, name, self._units[unit], queue.reset)
            side = self._units[unit].unit
            connect(m, getattr(self._sequencer, f"queue_{name}"), queue.i)
            connect(m, queue.o, side.instruction)
            waiting[unit] = queue.waiting
            m.d.comb += [
                queue.completed.eq(completed),
                queue.run.eq(self.run),
                queue.clear.eq(self.clear),
                side.abort.eq(queue.abort),
                self.issue[unit].eq(queue.o.valid & queue.o.ready),
                self.done[unit].eq(side.done),
            ]
            if late:
                m.d.comb += self._units[unit].drained.eq(queue.arrived)
            count_completed(m, completed[unit], reset, side.done)
        return waiting

    def _scratchpad(self, m: Module) -> list[tuple[int, Value]]:
        units = self._units
        readers = {"array": (units[Unit.ARRAY].activation, Unit.ARRAY)}
        writers = {"drain": (units[Unit.DRAIN].write, Unit.DRAIN)}
        if Unit.VECTOR in units:
            vector = units[Unit.VECTOR]
            readers["vector0"] = (vector.source0, Unit.VECTOR)
            readers["vector1"] = (vector.source1, Unit.VECTOR)
            writers["vector"] = (vector.write, Unit.VECTOR)
        readers["store"] = (self._store.read, Unit.STORE)
        readers["scalar"] = (self._sequencer.scalar, SEQUENCER_UNIT)
        scratchpad = ActivationScratchpad(
            self._config,
            [(name, unit) for name, (_, unit) in readers.items()],
            [("load", Unit.LOAD), *((name, unit) for name, (_, unit) in writers.items())],
        )
        self._add(m, "scratchpad", scratchpad)
        for name, (client, _) in (readers | writers).items():
            connect(m, client, getattr(scratchpad, name))
        self._local_write(m, Space.ACTIVATION, scratchpad.load)
        return [
            (source, Mux(scratchpad.error_unit == source, scratchpad.error, 0))
            for source in SOURCES
        ]

    def _local_write(self, m: Module, space: Space, port: Any) -> None:
        """Let LOAD write to one of its spaces."""
        write = self._load.write
        m.d.comb += [
            port.enable.eq(write.enable & (write.space == space)),
            port.address.eq(write.address),
            port.data.eq(write.data),
        ]

    def _linear_memories(self, m: Module) -> list[tuple[int, Value]]:
        """Weights, parameters and accumulators; the tables lie in the vector unit."""
        config = self._config
        array, drain = self._units[Unit.ARRAY], self._units[Unit.DRAIN]
        parameters = LinearMemory(
            beat_bits=8 * config.port.bytes,
            beats_per_row=config.parameter_row_beats,
            rows=config.parameter_rows,
        )
        self._add(m, "parameters", parameters)
        connect(m, drain.parameter, parameters.read)
        connect(m, drain.accumulator, array.drain_read)
        self._local_write(m, Space.PARAMETER, parameters.write)
        if Unit.VECTOR in self._units:
            self._local_write(m, Space.TABLE, self._units[Unit.VECTOR].table_write)
        return [*self._weights(m), (Unit.DRAIN, parameters.error)]

    def _weights(self, m: Module) -> list[tuple[int, Value]]:
        """The weight scratchpad: one memory that LOAD fills, or banks that VECTOR writes, too."""
        config, array = self._config, self._units[Unit.ARRAY]
        if "attention" in config.features:
            banked = self._add(m, "weights", BankedWeights(config))
            connect(m, array.weight, banked.read)
            connect(m, self._units[Unit.VECTOR].weight_write, banked.vector)
            self._local_write(m, Space.WEIGHT, banked.load)
            return [(Unit.ARRAY, banked.error), (Unit.VECTOR, banked.vector_error)]
        weights = LinearMemory(
            beat_bits=8 * config.port.bytes,
            beats_per_row=config.weight_group_beats,
            rows=config.weight_beats // config.weight_group_beats,
        )
        self._add(m, "weights", weights)
        connect(m, array.weight, weights.read)
        self._local_write(m, Space.WEIGHT, weights.write)
        return [(Unit.ARRAY, weights.error)]

    def _memory_port(self, m: Module) -> list[tuple[int, Value]]:
        """Everything between the memory port, its three users and the outside."""
        port, load, store, fetch = self._port, self._load, self._store, self._fetch
        connect(m, load.request, port.load)
        connect(m, store.request, port.store)
        connect(m, fetch.request, port.fetch)
        connect(m, port.ar, flipped(self.ar))
        connect(m, port.aw, flipped(self.aw))
        connect(m, store.w, flipped(self.w))
        m.d.comb += [
            port.enable.eq(self.goes_on),
            port.r_valid.eq(self.r_valid),
            port.r_data.eq(self.r_data),
            port.r_response.eq(self.r_response),
            port.r_last.eq(self.r_last),
            port.b_valid.eq(self.b_valid),
            self.port_idle.eq(port.idle),
            store.b_valid.eq(self.b_valid),
            store.b_response.eq(self.b_response),
            store.window_base.eq(self.settings.store_base),
            store.window_limit.eq(self.settings.store_limit),
            load.beat_valid.eq(port.load_beat),
            load.beat.eq(port.beat),
            port.urgent.eq(fetch.urgent),
            fetch.beat_valid.eq(port.fetch_beat),
            fetch.beat_data.eq(port.beat.data),
            fetch.beat_failed.eq(port.beat.failed),
        ]
        return [(SEQUENCER_UNIT, fetch.error)]

    def _control(self, m: Module) -> list[tuple[int, Value]]:
        sequencer, fetch = self._sequencer, self._fetch
        connect(m, fetch.o, sequencer.fetch)
        m.d.comb += [
            fetch.run.eq(self.run),
            fetch.base.eq(self.settings.program_base),
            fetch.length.eq(self.settings.program_length),
            fetch.jump.eq(sequencer.jump),
            fetch.target.eq(sequencer.target),
            sequencer.run.eq(self.run),
            sequencer.length.eq(self.settings.program_length),
            self.halt_code.eq(sequencer.halt_code),
            self.index.eq(sequencer.index),
            self.dispatched_index.eq(sequencer.dispatched_index),
        ]
        m.d.sync += self.halt.eq(sequencer.halt)
        return [(SEQUENCER_UNIT, sequencer.error)]

    def _events(self, m: Module, waiting: dict[Unit, Value]) -> None:
        """What the performance counters count (hw/arch/registers.py COUNTERS)."""
        events: dict[str, Value] = {
            "cycles": Const(1, 1),
            "load_memory": self._load.stalled,
            "store_memory": self._store.stalled,
            "array_vectors": self._units[Unit.ARRAY].vectors,
            "array_products": self._units[Unit.ARRAY].products,
            "read_beats": self._port.load_beat,
            "write_beats": self.w.valid & self.w.ready,
            "fetch_beats": self._port.fetch_beat,
            "instructions": self._sequencer.retired,
        }
        for unit, part in self._units.items():
            events[f"{unit.name.lower()}_busy"] = part.unit.busy
            events[f"{unit.name.lower()}_wait"] = waiting[unit]
        m.d.comb += self.events.eq(Cat(events.get(name, Const(0, 1)) for name in COUNTERS))
