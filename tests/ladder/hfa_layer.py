"""One hFA layer on one box of tiles: its instructions, its data, and its answer from torch.

    shape = Shape(temporal=0, spatial=2, size=(1, 7, 9), channels=8, filters=4)
    case = make(shape, AcceleratorConfig.load("tiny"), seed=1)
    accumulators, rows = functional(case)      # what the functional simulator leaves
    assert np.array_equal(rows, case.expected)

`case.arrays` (one ARRAY HFA, or several that accumulate: `Shape.parts`) and `case.drain` are to be
executed after `case.activations` [rows, L], `case.weights` and `case.parameters` (bytes) lie in
their memories from row and beat 0 on. Accumulator rows 0..`case.points`−1 then hold the products
([points, cols], what an ARRAY test compares), scratchpad rows `case.target` the results
(`case.expected`, u8 [rows, L]). `program(case)` is the same as a whole linked program with LOAD
and STORE for cores, its results from DRAM address linking.OUTPUT on. `direct(case)` is the same
layer, data and scratchpad rows as ARRAY GEMM and a plain DRAIN.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, Drain, Load, Space, Store, deltas
from hw.arch.layout import pack_transformed_weights
from hw.arch.numerics import pack_parameters, split_scale
from hw.arch.program import Program
from hw.arch.walk import transformed_nest
from hw.arch.winograd import Algorithm
from sim.functional import FunctionalMachine
from tests.ladder import linking

Triple = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Shape:
    """A stride-1 convolution and the box of its results that is computed.

    All triples are (t, y, x). A transformed axis has three taps; x and y otherwise one.

    Attributes
    ----------
    temporal, spatial: transforms as in the instructions; not both 0.
    size: of the input map. channels, filters: any.
    taps: along time where it is not transformed. stride: of the results along time, then.
    before, after: padding.
    dilation: of the taps. Where an axis is transformed, results `dilation` apart are computed.
    first: the first result, as a coordinate of the stride-1, dense result.
    count: results along each axis before pooling; 0 for all.
    window: maximum pool behind the layer.
    signed, zero_point: of the input.
    parts: ARRAY instructions that share the input blocks (at most one for each), each accumulating
        on the one before.
    """

    temporal: int = 0
    spatial: int = 2
    size: Triple = (1, 8, 8)
    channels: int = 4
    filters: int = 4
    taps: int = 1
    stride: int = 1
    before: Triple = (0, 1, 1)
    after: Triple = (0, 1, 1)
    dilation: Triple = (1, 1, 1)
    first: Triple = (0, 0, 0)
    count: Triple = (0, 0, 0)
    window: Triple = (1, 1, 1)
    signed: int = 0
    zero_point: int = 100
    parts: int = 1

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm(self.temporal, self.spatial)

    @property
    def kernel(self) -> Triple:
        taps = self.algorithm.kernel
        return (taps[0] if self.temporal else self.taps, *taps[1:])

    @property
    def dense(self) -> Triple:
        """Results of the whole map."""
        t, y, x = (
            n + b + a - d * (k - 1)
            for n, b, a, d, k in zip(
                self.size, self.before, self.after, self.dilation, self.kernel, strict=True
            )
        )
        return t, y, x

    @property
    def spacing(self) -> Triple:
        """Distance of neighbouring results in the dense result."""
        _, dy, dx = self.dilation
        time = self.dilation[0] if self.temporal else self.stride
        return (time, *((dy, dx) if self.spatial else (1, 1)))

    @property
    def results(self) -> Triple:
        """Results before pooling, a multiple of the window."""
        t, y, x = (
            (count or -(-(dense - first) // spacing)) // window * window
            for count, dense, first, spacing, window in zip(
                self.count, self.dense, self.first, self.spacing, self.window, strict=True
            )
        )
        return t, y, x

    @property
    def pooled(self) -> Triple:
        t, y, x = (n // w for n, w in zip(self.results, self.window, strict=True))
        return t, y, x

    @property
    def tiles(self) -> Triple:
        t, y, x = (-(-n // m) for n, m in zip(self.results, self.algorithm.outputs, strict=True))
        return t, y, x


@dataclasses.dataclass(frozen=True)
class Case:
    """What `make` builds; see the module."""

    shape: Shape
    config: AcceleratorConfig
    arrays: tuple[Array, ...]
    drain: Drain
    activations: np.ndarray
    weights: bytes
    parameters: bytes
    target: np.ndarray
    expected: np.ndarray
    points: int
    taps: np.ndarray
    centred_parameters: bytes


def make(
    shape: Shape,
    config: AcceleratorConfig,
    seed: int = 0,
    data: tuple[np.ndarray, np.ndarray] | None = None,
) -> Case:
    """Random data for a shape, its instructions, and its results by torch in float64.

    `data` are codes [channels, T, H, W] and taps [filters, channels, kt, ky, kx] to take instead.
    """
    rng = np.random.default_rng(seed)
    rows, cols = config.array.rows, config.array.cols
    ci, co = -(-shape.channels // rows), -(-shape.filters // cols)
    codes = rng.integers(0, 256, (ci * rows, *shape.size), np.uint8)  # padded lanes: anything
    taps = np.zeros((co * cols, ci * rows, *shape.kernel), np.int8)
    some = taps[: shape.filters, : shape.channels]
    some[...] = rng.integers(-128, 128, some.shape)
    if data is not None:
        codes[: shape.channels], some[...] = data
    sums = _convolve(shape, codes, taps)
    bias = rng.integers(-(1 << 12), 1 << 12, co * cols)
    typical = 74.0 * 74.0 * math.sqrt(shape.channels * math.prod(shape.kernel))
    scale = np.float32(rng.uniform(30, 60, co * cols) / typical)
    bias[shape.filters :] = 0
    expected = _requantize(shape, sums + bias[:, None, None, None], scale)
    expected[shape.filters :] = 128
    blocked = codes.reshape(ci, rows, -1).transpose(0, 2, 1).reshape(-1, rows)
    bank = config.memory.activation_bank_rows
    first = -(-len(blocked) // bank) * bank
    drain = _drain(shape, config, co, first)
    weights, arrays = _arrays(shape, config, taps, (ci, co))
    out = expected.reshape(co, config.array.blocks_per_row, rows, *shape.pooled)
    results = np.ascontiguousarray(np.moveaxis(out, 2, -1)).reshape(-1, rows)
    pairs = [split_scale(s) for s in scale]
    z = _raw_zero(shape)
    folded = bias - z * taps.reshape(len(taps), -1).sum(axis=1, dtype=np.int64)
    multipliers = [m if i < shape.filters else 0 for i, (m, _) in enumerate(pairs)]
    shifts = [n for _, n in pairs]
    return Case(
        shape,
        config,
        arrays,
        drain,
        blocked,
        weights,
        pack_parameters(folded.tolist(), multipliers, shifts),
        first + np.arange(len(results)),
        results.astype(np.uint8),
        math.prod((*shape.tiles, *shape.algorithm.points)) * co,
        taps,
        pack_parameters(bias.tolist(), multipliers, shifts),
    )


def _raw_zero(shape: Shape) -> int:
    return shape.zero_point if shape.signed else shape.zero_point - 128


def _convolve(shape: Shape, codes: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """Exact sums [filters, *results]."""
    values = codes.view(np.int8) if shape.signed else codes
    centred = torch.from_numpy(values.astype(np.float64) - shape.zero_point)[None]
    (tb, yb, xb), (ta, ya, xa) = shape.before, shape.after
    padded = torch.nn.functional.pad(centred, (xb, xa, yb, ya, tb, ta))
    kernel = torch.from_numpy(taps.astype(np.float64))
    dense = torch.nn.functional.conv3d(padded, kernel, dilation=shape.dilation)[0].numpy()
    index = [
        first + spacing * np.arange(count)
        for first, spacing, count in zip(shape.first, shape.spacing, shape.results, strict=True)
    ]
    return dense[np.ix_(np.arange(len(taps)), *index)].astype(np.int64)


def _requantize(shape: Shape, sums: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Codes [filters, *pooled] around zero point 128 by float32 arithmetic, pooled."""
    scaled = np.float32(sums) * scale[:, None, None, None]
    codes = np.clip(np.rint(scaled).astype(np.int64) + 128, 0, 255)
    (t, y, x), (wt, wy, wx) = shape.pooled, shape.window
    return codes.reshape(-1, t, wt, y, wy, x, wx).max(axis=(2, 4, 6))


def _arrays(
    shape: Shape, config: AcceleratorConfig, taps: np.ndarray, blocks: tuple[int, int]
) -> tuple[bytes, tuple[Array, ...]]:
    """Weights of every part, one after another, and the instructions that use them."""
    rows, cols = config.array.rows, config.array.cols
    (_, height, width), (ci, co) = shape.size, blocks
    t, y, x = shape.tiles
    pt, py, px = shape.algorithm.points
    mt, my, mx = shape.algorithm.outputs
    dt, dy, dx = shape.dilation
    row = (height * width, width, 1)
    places = (
        *(dx, dy * width, dt * row[0]),
        *(mx * shape.spacing[2], my * shape.spacing[1] * width, mt * shape.spacing[0] * row[0]),
        *(dt * row[0], shape.size[0] * row[0]),
    )
    starts = [first - pad for first, pad in zip(shape.first, shape.before, strict=True)]
    # [ci, kt_out, co, kt, ky, kx, rows, cols]
    kt = shape.kernel[0]
    inside, outside = (kt, 1) if shape.temporal else (1, kt)
    wide = taps.reshape(co, cols, ci, rows, outside, inside, *shape.kernel[1:])
    wide = wide.transpose(2, 4, 0, 5, 6, 7, 3, 1)
    result, data = [], b""
    for part in np.array_split(np.arange(ci), min(shape.parts, ci)):
        counts = (x, y, t, co, px, py, pt if shape.temporal else kt, len(part))
        nest = transformed_nest(counts, shape.temporal)
        start = sum(s * place for s, place in zip(starts, row, strict=True))
        pairs = wide[part].reshape(-1, *wide.shape[3:])
        instruction = Array(
            mode=ArrayMode.HFA,
            transform_t=shape.temporal,
            transform_s=shape.spatial,
            accumulate=int(part[0] > 0),
            signed=shape.signed,
            zero_point=shape.zero_point & 0xFF,
            activation=(start + int(part[0]) * places[7]) & 0xFFFF,
            weight=len(data) // config.port.bytes,
            counts=counts,
            deltas=deltas(nest, places),
            starts=tuple(reversed(starts)),
            steps=(1, 1, 1 if shape.temporal else shape.stride),
            dilations=(dx, dy, dt),
            bounds=tuple(reversed(shape.size)),
        )
        result.append(instruction)
        data += pack_transformed_weights(pairs, config.array.weight_rows_per_cycle).tobytes()
    return data, tuple(result)


def _drain(shape: Shape, config: AcceleratorConfig, co: int, destination: int) -> Drain:
    t, y, x = shape.pooled
    points, tiles = shape.algorithm.points[::-1], shape.tiles[::-1]
    n = math.prod(tiles)
    inner = (*tiles, *points)  # the accumulator's order, innermost first
    strides = [math.prod(inner[:level]) for level in range(len(inner))]
    accumulator = (*strides[3:], *strides[:3], n * math.prod(points))
    block = x * y * t
    return Drain(
        transform_t=shape.temporal,
        transform_s=shape.spatial,
        counts=(x, y, t, co),
        window=tuple(reversed(shape.window)),
        accumulator_deltas=deltas((*points, *tiles, co), accumulator),
        destination=destination,
        destination_deltas=(block, 1, x, x * y, block * config.array.blocks_per_row),
        zero_point=128,
        low=0,
        high=255,
    )


def direct(case: Case) -> Case:
    """The same layer and data in mode GEMM; `points` are its accumulator rows."""
    shape, config = case.shape, case.config
    (_, height, width), (x, y, t) = shape.size, shape.results[::-1]
    (kt, ky, kx), (dt, dy, dx), (st, sy, sx) = shape.kernel, shape.dilation, shape.spacing
    co, ci = case.drain.counts[3], case.taps.shape[1] // config.array.rows
    row = (height * width, width, 1)
    starts = [first - pad for first, pad in zip(shape.first, shape.before, strict=True)]
    start = sum(s * place for s, place in zip(starts, row, strict=True))
    counts = (x, y, t, co, kx, ky, kt, ci)
    places = (sx, sy * width, st * row[0], 0, dx, dy * width, dt * row[0], shape.size[0] * row[0])
    array = Array(
        mode=ArrayMode.GEMM,
        signed=shape.signed,
        zero_point=shape.zero_point & 0xFF,
        activation=start & 0xFFFF,
        counts=counts,
        deltas=deltas(counts, places),
        starts=tuple(reversed(starts)),
        steps=(sx, sy, st),
        dilations=(dx, dy, dt),
        bounds=tuple(reversed(shape.size)),
    )
    blocks = case.taps.reshape(co, config.array.cols, ci, config.array.rows, kt, ky, kx)
    weights = np.ascontiguousarray(blocks.transpose(2, 4, 5, 6, 0, 3, 1)).tobytes()
    wx, wy, wt = case.drain.window
    nest = (wx, wy, wt, *case.drain.counts)
    steps = (1, x, x * y, wx, wy * x, wt * x * y, x * y * t)
    drain = dataclasses.replace(
        case.drain,
        transform_t=0,
        transform_s=0,
        accumulator_deltas=deltas(nest, steps),
        destination_deltas=deltas(
            (config.array.blocks_per_row, *case.drain.counts), case.drain.destination_deltas
        ),
    )
    return dataclasses.replace(
        case,
        arrays=(array,),
        drain=drain,
        weights=weights,
        parameters=case.centred_parameters,
        points=x * y * t * co,
    )


def functional(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Accumulators [points, cols] and result rows [rows, L] of the functional simulator."""
    config = case.config
    machine = FunctionalMachine(config, np.zeros(64, np.uint8), (0, 64), check_reads=True)
    state = machine.state
    state.activation.write(np.arange(len(case.activations)), case.activations)
    for bank, data in ((state.weight, case.weights), (state.parameter, case.parameters)):
        beats = np.frombuffer(data, np.uint8).reshape(-1, config.port.bytes)
        bank.write(np.arange(len(beats)), beats)
    for instruction in (*case.arrays, case.drain):
        machine.execute(instruction)
    return state.accumulator.read(np.arange(case.points)), state.activation.read(case.target)


def program(case: Case) -> Program:
    """The case as a program: loads, the instructions, a store to linking.OUTPUT."""
    config, beat = case.config, case.config.port.bytes
    loads = [
        (Space.ACTIVATION, linking.DATA, case.activations.tobytes()),
        (Space.WEIGHT, linking.WEIGHTS, case.weights),
        (Space.PARAMETER, linking.PARAMETERS, case.parameters),
    ]
    code = [
        Load(dram=a, space=s, beats=len(d) // beat, local_deltas=(0, 0, 0)) for s, a, d in loads
    ]
    store = Store(dram=linking.OUTPUT, local=int(case.target[0]), beats=len(case.target))
    body = linking.place_waits([*code, *case.arrays, case.drain, store], config)
    return linking.link(
        config, [linking.begin(config), *body, linking.halt()], [(a, d) for _, a, d in loads]
    )
