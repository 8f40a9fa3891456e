"""Numbers of the instruction set: field widths, enumerations, delta form (see hw/arch/isa.py)."""

from __future__ import annotations

import enum
from collections.abc import Sequence

INSTRUCTION_BYTES = 64
OPCODE_BITS = 6
ADDRESS_BITS = 16
"""Activation scratchpad rows."""
DELTA_BITS = 17
LOCAL_BITS = 18
"""Local address of a transfer: rows or beats, whichever the space counts."""
COUNT_BITS = 12
ACCUMULATOR_BITS = 12
"""Accumulator rows, bank 1 behind bank 0."""
LINE_BITS = 12
"""Entries of the line buffer."""
STEP_BITS = 4
"""Coordinate step: a stride or a dilation."""
TABLE_BITS = 4
"""0 for none, or 1 + the index of a table."""
REGISTERS = 16
LOOP_LEVELS = 4
WAIT_BITS = 6
MAX_WAIT = (1 << WAIT_BITS) - 1
FIXED_POINT = 44
"""Fraction bits of the vector unit's affine arithmetic (numerics.AFFINE_FRACTION)."""
LINE_HAZARD = 3
"""Shortest line of a depthwise window with more than one row: line-buffer read to next read."""

FEATURES = (
    "depthwise",
    "vector",
    "hfa",
    "hfa_nested",
    "hfa_depthwise",
    "fold",
    "attention",
)
"""Optional parts of the circuit. Bit i of a feature mask stands for FEATURES[i]."""
FEATURE_BITS = 16
"""Of a feature mask."""


class Unit(enum.IntEnum):
    """The units that have an instruction queue, in the order of the `waits` field."""

    LOAD = 0
    ARRAY = 1
    DRAIN = 2
    VECTOR = 3
    STORE = 4


class Space(enum.IntEnum):
    """On-chip memories that a load can fill."""

    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    TABLE = 3


class Opcode(enum.IntEnum):
    """Operation codes; 0 is never valid, so that cleared memory stops the core."""

    BEGIN = 1
    SET = 2
    ADD = 3
    LOOP = 4
    NEXT = 5
    BRANCH = 6
    SCALAR = 7
    FENCE = 8
    HALT = 9
    LOAD = 16
    STORE = 17
    ARRAY = 18
    DRAIN = 19
    ELEMENTWISE = 20
    REDUCE = 21
    FOLD = 22
    PERMUTE = 23


class ErrorCode(enum.IntEnum):
    """Why the core stopped. 0 means no error; 1..15 can be a program's own `Halt.code`."""

    NONE = 0
    OPCODE = 16
    UNSUPPORTED = 17
    FINGERPRINT = 18
    BAD_WAIT = 19
    ADDRESS = 20
    BANK_CONFLICT = 21
    STORE_WINDOW = 22
    AXI_RESPONSE = 23
    WATCHDOG = 24
    ABORTED = 25
    LOOP = 26
    FETCH_RANGE = 27
    FIELD = 28


class ArrayMode(enum.IntEnum):
    """How the array is fed."""

    GEMM = 0
    DEPTHWISE = 1
    HFA = 2
    HFA_DEPTHWISE = 3


class ElementwiseOp(enum.IntEnum):
    """Operations on rows of one or two sources; definitions in hw/arch/numerics.py."""

    COPY = 0
    AFFINE = 1
    PRODUCT = 2
    MAX = 3
    MIN = 4


class ReduceOp(enum.IntEnum):
    """Operations over windows."""

    MAX = 0
    SUM = 1
    PACK = 2


class FoldOp(enum.IntEnum):
    """Operations that fold rows into groups; COLLECT and APPLY are the two passes of one."""

    DOT = 0
    MAX = 1
    ARGMAX = 2
    SOFTMAX_COLLECT = 3
    SOFTMAX_APPLY = 4
    NORM_COLLECT = 5
    NORM_APPLY = 6


class PermuteOp(enum.IntEnum):
    """Operations that move bytes between lanes."""

    SELECT = 0
    TRANSPOSE = 1


class Condition(enum.IntEnum):
    """Branch conditions on two signed 32-bit registers."""

    ALWAYS = 0
    EQUAL = 1
    NOT_EQUAL = 2
    LESS = 3
    GREATER_EQUAL = 4


def deltas(counts: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Turn strides into delta form.

    Parameters
    ----------
    counts, strides: per nest level, innermost first; equal lengths.

    Returns
    -------
    delta[k] = stride[k] − Σ over inner j of (count[j] − 1)·stride[j].
    """
    result = []
    rewind = 0
    for count, stride in zip(counts, strides, strict=True):
        result.append(stride - rewind)
        rewind += (count - 1) * stride
    return tuple(result)


def strides(counts: Sequence[int], delta: Sequence[int]) -> tuple[int, ...]:
    """Undo `deltas`."""
    result = []
    rewind = 0
    for count, step in zip(counts, delta, strict=True):
        stride = step + rewind
        result.append(stride)
        rewind += (count - 1) * stride
    return tuple(result)
