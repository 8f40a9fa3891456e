"""Programs built by hand: a small machine, tensors placed in its scratchpads, one layer each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from hw.arch.axes import standard
from hw.arch.config import CONFIG_DIRECTORY, AcceleratorConfig
from hw.arch.isa import Begin, Elementwise, Halt, Load, Store
from hw.arch.layout import TensorLayout
from hw.arch.numerics import pack_parameters
from hw.arch.program import Feed, Input, Layer, Output, Program, Tensor
from sim.functional import FunctionalMachine


class Bench:
    """A machine whose scratchpads are filled directly, to test one unit at a time."""

    def __init__(self, config: AcceleratorConfig, memory_bytes: int = 1 << 16):
        self.config = config
        self.memory = np.zeros(memory_bytes, np.uint8)
        self.machine = FunctionalMachine(config, self.memory, (0, memory_bytes), check_reads=True)

    def begin(self) -> Begin:
        return Begin(self.config.fingerprint, self.config.feature_mask)

    def run(self, *instructions):
        return self.machine.run([self.begin(), *instructions, Halt()])

    def put_rows(self, row: int, codes: np.ndarray) -> None:
        """Write [n, L] bytes to the activation scratchpad."""
        rows = codes.reshape(-1, self.config.lane_block)
        self.machine.state.activation.write(np.arange(row, row + len(rows)), rows.view(np.uint8))

    def rows(self, row: int, count: int) -> np.ndarray:
        return self.machine.state.activation.read(np.arange(row, row + count))

    def put_weights(self, beat: int, blocks: np.ndarray) -> None:
        """Write [..., rows, cols] int8 weight blocks."""
        beats = np.ascontiguousarray(blocks).view(np.uint8).reshape(-1, self.config.port.bytes)
        self.machine.state.weight.write(np.arange(beat, beat + len(beats)), beats)

    def put_parameters(self, beat: int, bias, multiplier, shift) -> None:
        data = np.frombuffer(pack_parameters(bias, multiplier, shift), np.uint8)
        beats = data.reshape(-1, self.config.port.bytes)
        self.machine.state.parameter.write(np.arange(beat, beat + len(beats)), beats)

    def put_table(self, index: int, table: np.ndarray) -> None:
        beats = table.reshape(-1, self.config.port.bytes)
        first = index * self.config.table_beats
        self.machine.state.table.write(np.arange(first, first + len(beats)), beats)

    def accumulators(self, row: int, count: int) -> np.ndarray:
        return self.machine.state.accumulator.read(np.arange(row, row + count))


@pytest.fixture
def tiny() -> AcceleratorConfig:
    return AcceleratorConfig.load("tiny")


@pytest.fixture
def tiny_direct() -> AcceleratorConfig:
    return AcceleratorConfig.load("tiny_direct")


@pytest.fixture
def bench(tiny) -> Bench:
    return Bench(tiny)


@pytest.fixture
def make_bench():
    return Bench


NETWORK = {"scale": 0.02, "zero_point": 100, "shape": (1, 8, 2, 3, 4)}


def relu_model(path):
    """x → QuantizeLinear → Relu → QuantizeLinear → y, as a user's file would have it."""
    node = onnx.helper.make_node
    values = [
        onnx.numpy_helper.from_array(np.array(NETWORK["scale"], np.float32), "scale"),
        onnx.numpy_helper.from_array(np.array(NETWORK["zero_point"], np.uint8), "zero"),
    ]
    info = [
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, NETWORK["shape"])
        for n in ("clip", "y")
    ]
    nodes = [
        node("QuantizeLinear", ["clip", "scale", "zero"], ["clip_q"]),
        node("DequantizeLinear", ["clip_q", "scale", "zero"], ["clip_d"]),
        node("Relu", ["clip_d"], ["relu"]),
        node("QuantizeLinear", ["relu", "scale", "zero"], ["relu_q"]),
        node("DequantizeLinear", ["relu_q", "scale", "zero"], ["y"]),
    ]
    graph = onnx.helper.make_graph(nodes, "relu", info[:1], info[1:], values)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)


def relu_program(config, low):
    """LOAD, COPY with a clamp, STORE."""
    layout = TensorLayout.dense((8, 2, 3, 4), config.lane_block)
    shape = NETWORK["shape"]
    rows = layout.rows
    step = (1, 0, 0, 0)

    def tensor(name, address):
        quantization = False, NETWORK["scale"], NETWORK["zero_point"]
        return Tensor(name, address, layout, *quantization, shape, standard(shape))

    source, result = tensor("clip_q", 0x1000), tensor("relu_q", 0x2000)
    code = (
        Begin(config.fingerprint, config.feature_mask),
        Load(dram=0x1000, beats=rows),
        Elementwise(
            counts=(rows, 1, 1, 1),
            source0_deltas=step,
            destination=256,
            destination_deltas=step,
            low=low,
            waits=(1, 0, 0, 0, 0),
        ),
        Store(dram=0x2000, local=256, beats=rows, waits=(0, 0, 0, 1, 0)),
        Halt(),
    )
    return Program(
        network="relu",
        config=config.name,
        fingerprint=config.fingerprint,
        instructions=code,
        code_address=0,
        image=(),
        memory_bytes=0x3000,
        store_window=(0x2000, 0x3000),
        inputs=(Input("clip", shape, "float32"),),
        feeds=(Feed("clip_q", "clip"),),
        outputs=(Output("y", shape, "float32", "relu_q", standard(shape)),),
        tensors=(source, result),
        layers=(Layer("relu", "relu", 1, 4, 1000, 2 * rows, ("relu_q",), {"rows": rows}),),
    )


@pytest.fixture
def relu_build(tmp_path, tiny):
    """A build directory; `low` of the clamp can be set wrong."""

    def build(low=NETWORK["zero_point"], folder=tmp_path / "relu"):
        folder.mkdir(exist_ok=True)
        relu_program(tiny, low).save(folder / "program.bin")
        relu_model(folder / "model.onnx")
        preset = CONFIG_DIRECTORY / "tiny.yaml"
        (folder / "config.yaml").write_text(preset.read_text())
        x = np.random.default_rng(30).normal(0, 1, NETWORK["shape"]).astype(np.float32)
        codes = np.clip(np.rint(x / np.float32(0.02)) + 100, 100, 255)
        y = (codes - 100).astype(np.float32) * np.float32(0.02)
        np.savez(folder / "golden.npz", **{"input:clip": x, "output:y": y})
        return folder

    return build
