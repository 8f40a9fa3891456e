"""Graphs of single operators, and their programs on the functional machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from compiler import interpreter
from compiler.backend.build import generate
from compiler.ir import Convolution, Graph, Operation, Port, TensorType, Value, Window, verify
from compiler.layout.assign import assign_layout
from hw.arch.config import AcceleratorConfig
from hw.arch.numerics import split_scale
from hw.arch.program import Program
from sim.backend import Options
from sim.backends import make_backend
from sim.functional.backend import dynamic_trace
from sim.functional.hazards import check_hazards
from sim.host import start_image
from sim.image import Image
from tests.machines import folding


def direct(config: AcceleratorConfig) -> AcceleratorConfig:
    """The configuration without fast algorithms."""
    return dataclasses.replace(
        config,
        array=dataclasses.replace(config.array, activation_bits=9, weight_bits=8),
        memory=dataclasses.replace(config.memory, transformed_rows=0),
        lanes=dataclasses.replace(config.lanes, output_transform=0),
        features=("depthwise", "vector"),
    )


CONFIGS = {
    "tiny": AcceleratorConfig.load("tiny_direct"),
    "wide": AcceleratorConfig.load("wide"),
    "base": direct(AcceleratorConfig.load("base")),
}
"""Machines without fast algorithms; hfa_cases.py has those with them."""
FOLDING = {
    "folding": folding("tiny_direct", attention=False),
    "folding_base": folding("base", attention=False),
    "folding_ecp5": folding("ecp5_85k_direct", attention=False),
}
"""Machines that select lanes: a row of VECTOR in one cycle, and in four."""


def kind(
    shape: tuple[int, int, int, int],
    scale: float = 0.05,
    zero_point: int = 3,
    signed: bool = False,
) -> TensorType:
    """Type of a [C, T, H, W] tensor."""
    return TensorType.of((1, *shape), signed, scale, zero_point)


def network(
    inputs: dict[str, TensorType],
    ops: Sequence[Operation],
    results: dict[str, TensorType],
) -> Graph:
    """A checked graph; the last operator's result is its output."""
    values = {name: Value(name, t) for name, t in {**inputs, **results}.items()}
    graph = Graph(
        "network",
        tuple(Port(name, name) for name in inputs),
        (Port(ops[-1].output, ops[-1].output),),
        values,
        tuple(ops),
    )
    verify(graph)
    return graph


def convolution(
    rng: np.random.Generator,
    source: TensorType,
    out_channels: int,
    kernel: tuple[int, int, int],
    *,
    name: str = "conv",
    inputs: tuple[str, ...] = ("x",),
    output: str = "y",
    groups: int = 1,
    signed: bool = False,
    pool: tuple[int, int, int] | None = None,
    **attributes: tuple[int, int, int],
) -> tuple[Convolution, TensorType]:
    """A convolution with random weights, scaled so that its results use the whole code range."""
    shape = (out_channels, source.shape[0] // groups, *kernel)
    weight = rng.integers(-127, 128, shape).astype(np.int8)
    bias = rng.integers(-(1 << 12), 1 << 12, out_channels).astype(np.int32)
    spread = 40.0 * np.sqrt(np.prod(shape[1:])) * 70
    scales = rng.uniform(0.5, 2.0, out_channels) * 100 / spread
    split = [split_scale(s) for s in scales]
    low = -128 if signed else 0
    op = Convolution(
        name=name,
        inputs=inputs,
        output=output,
        weight=weight,
        bias=bias,
        multiplier=np.array([m for m, _ in split], np.int64),
        shift=np.array([n for _, n in split], np.int64),
        groups=groups,
        low=low + 3,
        high=low + 250,
        pool=None if pool is None else Window(pool, pool),
        **attributes,
    )
    zero = 5 if signed else 121
    return op, kind(op.infer([source]), 0.07, zero, signed)


@dataclasses.dataclass(frozen=True)
class Run:
    """A program, what its run left and wrote over, and what the interpreter says."""

    graph: Graph
    program: Program
    config: AcceleratorConfig
    image: Image
    reference: dict[str, np.ndarray]

    @property
    def memory(self) -> np.ndarray:
        """DRAM after it ran."""
        return self.image.memory

    def differing(self) -> list[str]:
        """Names of stored tensors that are not equal to the interpreter's."""
        return [
            t.name
            for t in self.program.tensors
            if not np.array_equal(self.image.read(t), self.reference[t.name])
        ]


def feeds_of(graph: Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Random codes for every input, in the ONNX shape."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for port in graph.inputs:
        t = graph.type(port.value)
        feeds[port.value] = rng.integers(t.low, t.high + 1, t.onnx_shape).astype(t.dtype)
    return feeds


def _stain(memory: np.ndarray, program: Program) -> None:
    """Random bytes in the inputs' lanes of no channel."""
    rng = np.random.default_rng(99)
    for feed in program.feeds:
        tensor = program.tensor(feed.tensor)
        layout = tensor.layout
        empty = np.flatnonzero(layout.lane_channels() < 0)
        rows = memory[tensor.address : tensor.address + layout.nbytes]
        blocks = rows.reshape(layout.blocks, layout.positions, layout.lanes)
        for block, lane in zip(*np.divmod(empty, layout.lanes), strict=True):
            blocks[block, :, lane] = rng.integers(0, 256, layout.positions)


def execute(
    graph: Graph,
    config: AcceleratorConfig,
    program: Program | None = None,
    seed: int = 0,
    feeds: dict[str, np.ndarray] | None = None,
) -> Run:
    """Generate (unless given), prove the waits, run; reads of unwritten memory are errors.

    Lanes of no channel hold anything: those of inputs are filled with random bytes.
    """
    program = program or generate(graph, config)
    feeds = feeds or feeds_of(graph, seed)
    memory = start_image(program, feeds)
    _stain(memory, program)
    check_hazards(dynamic_trace(program, config, memory), config, program.memory_bytes)
    result = make_backend("functional").run(program, config, memory, Options(check_reads=True))
    assert result.halt_code == 0
    onnx_feeds = {port.onnx_name: feeds[port.value] for port in graph.inputs}
    # Tensors that only the back end knows are stored, too.
    whole = assign_layout(graph, config).graph
    return Run(graph, program, config, result.image, interpreter.run(whole, onnx_feeds))
