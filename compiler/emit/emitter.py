"""What every lowering writes to: instructions in program order, constants, scratchpad places."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from compiler.emit.allocate import ConstantPool, RingPlacer
from compiler.emit.onchip import OnChip
from compiler.emit.sent import Sent
from compiler.emit.transfers import TransferError
from compiler.ir import CompilerError
from compiler.policy import Policy
from compiler.tile.limits import MAX_BEATS
from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import EncodingError
from hw.arch.isa import (
    Instruction,
    Load,
    Space,
    Store,
    Unit,
    UnitInstruction,
    deltas,
)
from hw.arch.layout import ceil_div
from hw.arch.program import Tensor

TABLE_BYTES = 256
"""Of a slot of the table memory."""


class RefusedError(CompilerError):
    """Why an operator cannot run on a configuration; whoever asked knows which operator."""


class Emitter:
    """Collects a program.

    Members
    -------
    config: the accelerator.
    policy: how layers choose between direct and transformed.
    tensors: where every stored tensor lies, by name.
    scratch: DRAM addresses that a layer may store to beside its result, by the result's name.
    unstored: values that are not stored whole: parts of them are read on chip only.
    guests: results of products that leave room for the layer which they are woven into.
    instructions: so far, without waits, which are filled in when all stand (flow/waits.py).
    registers: by a value of a Loop's body: the register that holds how far its part of a tensor
        lies behind that of the first trip.
    in_place: values that are read where their part lies: their own address, that of the first
        trip's part, and how many bytes.
    spans: by register, how far it moves on at most.
    reaches: the same by index of an instruction that one moves.
    weights, parameters: places in the weight and parameter memories, handed out round robin so
        that a layer's constants can arrive while the layer before still computes.
    vector_weights: places in the last bank of the weight memory, for weights that the vector unit
        makes. A bank has one write port: what is loaded there waits, or has to be waited for.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        tensors: Mapping[str, Tensor],
        constants: ConstantPool,
        policy: Policy | None = None,
        scratch: Mapping[str, int] | None = None,
        unstored: frozenset[str] = frozenset(),
        guests: frozenset[str] = frozenset(),
    ):
        self.config = config
        self.policy = policy or Policy()
        self.tensors = tensors
        self.scratch = scratch or {}
        self.unstored = unstored
        self.guests = guests
        self.instructions: list[Instruction] = []
        self.registers: dict[str, int] = {}
        self.in_place: dict[str, tuple[int, int, int]] = {}
        self.spans: dict[int, int] = {}
        self.reaches: dict[int, int] = {}
        self._moving: dict[Unit, int] = {}
        self.weights = RingPlacer(config.weight_beats)
        bank = config.weight_bank_beats
        self.vector_weights = RingPlacer(bank, config.weight_beats - bank)
        self.parameters = RingPlacer(config.parameter_rows * config.parameter_row_beats)
        self._sent = Sent(config)
        self._on_chip = OnChip(config, self.instructions)
        self._constants = constants
        self._tables = RingPlacer(config.memory.tables)

    def emit(self, instruction: UnitInstruction) -> None:
        """Append an instruction, without its waits; what moves it with the trips is filled in."""
        moved = self._moved(instruction)
        if isinstance(moved, Load | Store) and moved.dram_register:
            self.reaches[len(self.instructions)] = self.spans[moved.dram_register]
        self._sent.add(moved)
        self.instructions.append(moved)

    def lies(self, name: str) -> bool:
        """Whether a value's bytes are where its tensor says; not where it is read in place."""
        if name in self.unstored:
            return False
        address = self.tensors[name].address
        return not any(own <= address < own + size for own, _, size in self.in_place.values())

    @contextlib.contextmanager
    def moved(self, name: str, unit: Unit) -> Iterator[None]:
        """While it lasts, all that LOAD or STORE transfers is a trip's part, of some value."""
        self._moving[unit] = self.registers[name]
        try:
            yield
        finally:
            del self._moving[unit]

    def _moved(self, instruction: UnitInstruction) -> UnitInstruction:
        """A transfer of a trip's part, moved by a register."""
        if not isinstance(instruction, Load | Store):
            return instruction
        register = self._moving.get(instruction.UNIT, 0)
        if register:
            return dataclasses.replace(instruction, dram_register=register)
        if isinstance(instruction, Load):
            for name, (own, first, size) in self.in_place.items():
                if own <= instruction.dram < own + size:
                    return dataclasses.replace(
                        instruction,
                        dram=instruction.dram - own + first,
                        dram_register=self.registers[name],
                    )
        return instruction

    def restart(self) -> None:
        """A block begins here, which may be reached on several paths."""
        self._sent = Sent(self.config)
        self._on_chip.forget()

    def end_layer(self, first: int, wanted: Sequence[tuple[int, int]] = ()) -> None:
        """A layer is complete, from an instruction on: what is on chip is not loaded again.

        `wanted`: addresses, first and the one behind, that later layers load.
        """
        self._on_chip.layer(first, wanted)

    def dispatched(self, unit: Unit) -> int:
        """Instructions that a unit has been given so far."""
        return self._sent.dispatched(unit)

    def stored(self, address: int) -> tuple[int, int]:
        """Sorts DRAM bytes: the earlier one was stored the earlier it comes, inputs before all."""
        return self._sent.stored(address), address

    def constant(self, data: bytes) -> int:
        """DRAM address of constant bytes; equal bytes are stored once."""
        return self._constants.add(data)

    def load_constant(self, data: bytes, space: Space, local: int) -> Load:
        """A transfer of constant bytes, whole beats, to consecutive beats from `local`."""
        width = self.config.port.bytes
        beats, rest = divmod(len(data), width)
        if rest:
            raise ValueError(f"a constant of {len(data)} bytes is no multiple of {width}")
        if beats <= MAX_BEATS:
            return Load(dram=self.constant(data), space=space, local=local, beats=beats)
        runs = next(n for n in range(ceil_div(beats, MAX_BEATS), beats + 1) if beats % n == 0)
        counts = (runs, 1, 1)
        size = beats // runs
        return Load(
            dram=self.constant(data),
            space=space,
            local=local,
            beats=size,
            counts=counts,
            dram_deltas=deltas(counts, (size * width, 0, 0)),
            local_deltas=deltas(counts, (size, 0, 0)),
        )

    def table(self, table: bytes | None) -> int:
        """Bring a lookup table on chip; returns the instruction's `table` field, 0 for none.

        One of more than 256 bytes takes consecutive slots.
        """
        if table is None:
            return 0
        index = self._tables.take(ceil_div(len(table), TABLE_BYTES))
        self.emit(self.load_constant(table, Space.TABLE, index * self.config.table_beats))
        return index + 1


class Probe(Emitter):
    """An emitter that keeps nothing: it only sees whether instructions hold their fields."""

    def __init__(self, config: AcceleratorConfig):
        super().__init__(config, {}, ConstantPool(0))

    def emit(self, instruction: UnitInstruction) -> None:
        """Raise EncodingError where a field overflows."""
        instruction.encode()


def holds(emit: Callable[[], None]) -> bool:
    """Whether a piece of emission, given a `Probe`, fits the instructions' fields."""
    try:
        emit()
    except (EncodingError, TransferError):
        return False
    return True
