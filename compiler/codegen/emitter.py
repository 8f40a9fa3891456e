"""What every lowering writes to: instructions in program order, constants, scratchpad places."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.codegen.allocate import ConstantPool, RingPlacer
from compiler.codegen.dependencies import DependencyTracker
from compiler.codegen.policy import Policy
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Instruction, Load, Space, Unit, UnitInstruction
from hw.arch.program import Tensor


class Emitter:
    """Collects a program.

    Members
    -------
    config: the accelerator.
    policy: how layers choose between direct and transformed.
    tensors: where every stored tensor lies, by name.
    scratch: DRAM addresses that a layer may store to beside its result, by the result's name.
    instructions: so far, waits included.
    weights, parameters: places in the weight and parameter memories, handed out round robin so
        that a layer's constants can arrive while the layer before still computes.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        tensors: Mapping[str, Tensor],
        constants: ConstantPool,
        policy: Policy | None = None,
        scratch: Mapping[str, int] | None = None,
    ):
        self.config = config
        self.policy = policy or Policy()
        self.tensors = tensors
        self.scratch = scratch or {}
        self.instructions: list[Instruction] = []
        self.weights = RingPlacer(config.weight_beats)
        self.parameters = RingPlacer(config.parameter_rows * config.parameter_row_beats)
        self._tracker = DependencyTracker(config)
        self._constants = constants
        self._tables = RingPlacer(config.memory.tables)

    def emit(self, instruction: UnitInstruction) -> None:
        """Append an instruction; its waits are filled in here."""
        self.instructions.append(self._tracker.add(instruction))

    def dispatched(self, unit: Unit) -> int:
        """Instructions that a unit has been given so far."""
        return self._tracker.dispatched(unit)

    def constant(self, data: bytes) -> int:
        """DRAM address of constant bytes; equal bytes are stored once."""
        return self._constants.add(data)

    def load_constant(self, data: bytes, space: Space, local: int) -> Load:
        """A transfer of constant bytes, whole beats, to consecutive beats from `local`."""
        beats, rest = divmod(len(data), self.config.port.bytes)
        assert rest == 0, (len(data), self.config.port.bytes)
        address = self.constant(data)
        limit = (1 << 15) - 1
        if beats <= limit:
            return Load(dram=address, space=space, local=local, beats=beats)
        raise AssertionError(f"a constant of {beats} beats in one transfer")

    def table(self, table: bytes | None) -> int:
        """Bring a lookup table on chip; returns the instruction's `table` field, 0 for none."""
        if table is None:
            return 0
        index = self._tables.take(1)
        self.emit(self.load_constant(table, Space.TABLE, index * self.config.table_beats))
        return index + 1
