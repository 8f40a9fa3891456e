"""What costs energy, and the part of the circuit that it is charged to."""

from __future__ import annotations

import enum
from collections import Counter


class Action(enum.StrEnum):
    """Things that cost energy. Rows, beats and values are those of the configuration."""

    MULTIPLY = "multiply"
    """One activation × weight product of 9 × 8 bits; padding counts, weight rows without a tap do
    not."""
    MULTIPLY_TRANSFORMED = "multiply_transformed"
    """One bit by one bit of a product of transformed operands, of the algorithm's exact widths."""
    TREE_ADD = "tree_add"
    """One addition inside a column's adder tree."""
    TREE_ADD_TRANSFORMED = "tree_add_transformed"
    """One added bit inside a column's adder tree, in mode HFA."""
    ACCUMULATE = "accumulate"
    """One addition to an accumulator."""
    ACCUMULATOR_READ = "accumulator_read"
    ACCUMULATOR_WRITE = "accumulator_write"
    """One accumulator (not a row of them)."""
    ACTIVATION_READ = "activation_read"
    ACTIVATION_WRITE = "activation_write"
    """One scratchpad row."""
    WEIGHT_READ = "weight_read"
    WEIGHT_WRITE = "weight_write"
    PARAMETER_READ = "parameter_read"
    PARAMETER_WRITE = "parameter_write"
    TABLE_WRITE = "table_write"
    """One beat."""
    INPUT_TRANSFORM = "input_transform"
    WEIGHT_TRANSFORM = "weight_transform"
    OUTPUT_TRANSFORM = "output_transform"
    """One added bit."""
    DIVIDE = "divide"
    """One exact division by L: a product modulo 2^36, in three native multipliers."""
    TURN = "turn"
    """One bit that goes through a turning memory."""
    TRANSFORMED_READ = "transformed_read"
    TRANSFORMED_WRITE = "transformed_write"
    """One row of transformed activations (U)."""
    TRANSFORMED_WEIGHT_READ = "transformed_weight_read"
    TRANSFORMED_WEIGHT_WRITE = "transformed_weight_write"
    """One row of transformed weights (TWB), LW × cols of them."""
    TABLE_READ = "table_read"
    """One look-up of a byte."""
    REQUANTIZE = "requantize"
    """One accumulator to one activation."""
    VECTOR_AFFINE = "vector_affine"
    VECTOR_PRODUCT = "vector_product"
    VECTOR_COMPARE = "vector_compare"
    VECTOR_SUM = "vector_sum"
    """One element of the vector unit; copies and packing cost only their accesses."""
    FOLD_MULTIPLY = "fold_multiply"
    """One product of two centred elements, added up."""
    FOLD_EXPONENTIAL = "fold_exponential"
    """One exponential looked up: a word of a table."""
    FOLD_SOFTMAX = "fold_softmax"
    """One exponential times its group's reciprocal, rounded."""
    FOLD_SQUARE = "fold_square"
    """One element and its square, added up."""
    FOLD_NORM = "fold_norm"
    """One element normalised, scaled and rounded."""
    FOLD_ENGINE = "fold_engine"
    """One cycle of the engine for roots and reciprocals."""
    VECTOR_SELECT = "vector_select"
    """One byte chosen among those of two rows, or out of a transposing buffer."""
    DRAM_READ = "dram_read"
    DRAM_WRITE = "dram_write"
    """One beat."""
    FETCH = "fetch"
    """One beat of instructions."""
    CYCLE = "cycle"
    """One clock cycle of leakage."""


COMPONENTS: dict[Action, str] = {
    Action.MULTIPLY: "array",
    Action.MULTIPLY_TRANSFORMED: "array",
    Action.TREE_ADD: "array",
    Action.TREE_ADD_TRANSFORMED: "array",
    Action.ACCUMULATE: "array",
    Action.ACCUMULATOR_READ: "accumulators",
    Action.ACCUMULATOR_WRITE: "accumulators",
    Action.ACTIVATION_READ: "activation scratchpad",
    Action.ACTIVATION_WRITE: "activation scratchpad",
    Action.WEIGHT_READ: "weight scratchpad",
    Action.WEIGHT_WRITE: "weight scratchpad",
    Action.PARAMETER_READ: "parameters and tables",
    Action.PARAMETER_WRITE: "parameters and tables",
    Action.INPUT_TRANSFORM: "transforms",
    Action.WEIGHT_TRANSFORM: "transforms",
    Action.OUTPUT_TRANSFORM: "transforms",
    Action.DIVIDE: "transforms",
    Action.TURN: "transforms",
    Action.TRANSFORMED_READ: "transformed operands",
    Action.TRANSFORMED_WRITE: "transformed operands",
    Action.TRANSFORMED_WEIGHT_READ: "transformed operands",
    Action.TRANSFORMED_WEIGHT_WRITE: "transformed operands",
    Action.TABLE_READ: "parameters and tables",
    Action.TABLE_WRITE: "parameters and tables",
    Action.REQUANTIZE: "requantize",
    Action.VECTOR_AFFINE: "vector",
    Action.VECTOR_PRODUCT: "vector",
    Action.VECTOR_COMPARE: "vector",
    Action.VECTOR_SUM: "vector",
    Action.FOLD_MULTIPLY: "vector",
    Action.FOLD_EXPONENTIAL: "parameters and tables",
    Action.FOLD_SOFTMAX: "vector",
    Action.FOLD_SQUARE: "vector",
    Action.FOLD_NORM: "vector",
    Action.FOLD_ENGINE: "vector",
    Action.VECTOR_SELECT: "vector",
    Action.DRAM_READ: "DRAM",
    Action.DRAM_WRITE: "DRAM",
    Action.FETCH: "instruction fetch",
    Action.CYCLE: "leakage",
}

Actions = Counter[Action]
