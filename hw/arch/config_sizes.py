"""What follows from a configuration: sizes, and what fits where."""

from __future__ import annotations

import math

from hw.arch.config import AcceleratorConfig


def _kib(size: float) -> str:
    return f"{size / 1024:g} KiB"


def sizes(config: AcceleratorConfig) -> list[tuple[str, str]]:
    """Derived sizes of a configuration: what, how much."""
    array, memory, port = config.array, config.memory, config.port
    accumulator = memory.accumulator_rows * array.cols * memory.accumulator_bits / 8
    rows = [
        ("multipliers", f"{array.multipliers}: {array.rows} × {array.cols}"),
        (
            "operands",
            (
                f"{array.activation_bits} × {array.weight_bits} bits, sums of "
                f"{memory.accumulator_bits}"
            ),
        ),
        ("peak", f"{array.multipliers} MAC a cycle, direct"),
        ("memory port", f"{port.bytes} bytes a cycle, {8 * port.bytes}-bit AXI4"),
        ("roofline corner", f"{array.multipliers / port.bytes:g} MAC per byte"),
        (
            "activation scratchpad",
            (
                f"{_kib(memory.activation_rows * array.rows)}: {memory.activation_banks} banks of "
                f"{memory.activation_bank_rows} rows"
            ),
        ),
        ("weight scratchpad", f"{_kib(memory.weight_bytes)}: {config.weight_beats} beats"),
        ("accumulators", f"2 × {_kib(accumulator)}: {memory.accumulator_rows} rows each"),
        ("parameters", f"{_kib(8 * memory.parameter_columns)}"),
        ("tables", f"{memory.tables} of 256 bytes"),
    ]
    if memory.transformed_rows:
        size = 2 * memory.transformed_rows * array.rows * array.activation_bits / 8
        rows.append(("transformed activations", f"2 × {_kib(size / 2)}"))
    rows += [
        ("a weight block loads in", f"{config.weight_block_groups} cycles"),
        ("DRAIN takes a row in", f"{config.requantize_steps} cycles"),
        ("VECTOR takes a row in", f"{config.vector_steps} cycles"),
        ("features", ", ".join(config.features) or "none"),
        ("fingerprint", f"{config.fingerprint:016x}"),
    ]
    return rows


def fits(config: AcceleratorConfig) -> list[tuple[str, str]]:
    """What fits where; tiles beyond it are cut by the compiler."""
    array, memory = config.array, config.memory
    blocks = memory.weight_bytes // array.multipliers
    side = math.isqrt(memory.activation_rows)
    lines = [
        (
            "weights on chip",
            (
                f"{blocks} blocks of {array.rows} × {array.cols}: a 3×3×3 kernel of up to "
                f"{blocks // 27 * array.rows} channels to {array.cols}, or half of that "
                "while the next one loads"
            ),
        ),
        (
            "a map on chip",
            (
                f"{side}×{side} pixels of {array.rows} channels, or "
                f"{memory.activation_rows // 3136} blocks of 56×56 pixels"
            ),
        ),
        (
            "results at a time",
            f"{memory.accumulator_rows} pixels of {array.cols} channels in each accumulator bank",
        ),
        ("channels of a layer", f"{memory.parameter_columns} before parameters are loaded anew"),
    ]
    if "depthwise" in config.features:
        lines.append(("width of a depthwise line", f"{memory.line_pixels} pixels"))
    if "hfa" in config.features:
        tiles = memory.transformed_rows // 36
        lines.append(("tiles of F(4×4,3×3) at a time", f"{tiles} in each half of U"))
    if array.rows > 3:
        lines.append(
            ("an RGB input fills", f"3 of {array.rows} lanes where a layer is dense and direct")
        )
    return lines
