"""Layers for ARRAY in mode HFA: instruction, memories, expected accumulators and results."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import torch

from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Array, ArrayMode, deltas
from hw.arch.layout import pack_transformed_weights
from hw.arch.winograd import Algorithm, wrap


@dataclasses.dataclass(frozen=True)
class Layer:
    """A convolution; sizes are (t, y, x) of its input, padding symmetric.

    `kernel` is 3 on transformed axes; another axis has what `kernel` says along time, else 1.
    """

    algorithm: Algorithm
    size: tuple[int, int, int]
    padding: tuple[int, int, int] = (0, 0, 0)
    kernel_t: int = 1
    dilation_t: int = 1
    stride_t: int = 1
    ci: int = 1
    co: int = 1
    signed: int = 0
    zero_point: int = 7

    @property
    def kernel(self) -> tuple[int, ...]:
        t, y, x = self.algorithm.kernel
        return (t if self.algorithm.temporal else self.kernel_t, y, x)

    @property
    def dilation(self) -> tuple[int, ...]:
        return (self.dilation_t, 1, 1)

    @property
    def stride(self) -> tuple[int, ...]:
        """Distance of results: of a dilated transformed axis, one phase is computed."""
        return (self.dilation_t if self.algorithm.temporal else self.stride_t, 1, 1)

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, k, d, s in zip(
                self.size, self.padding, self.kernel, self.dilation, self.stride, strict=True
            )
        )

    @property
    def tiles(self) -> tuple[int, ...]:
        return tuple(-(-n // m) for n, m in zip(self.outputs, self.algorithm.outputs, strict=True))


@dataclasses.dataclass
class Case:
    """A layer with data.

    Attributes
    ----------
    codes: u8 [ci, t, y, x, L].
    weights: int8 [ci, kt, ky, kx, co, rows, cols].
    """

    layer: Layer
    config: AcceleratorConfig
    codes: np.ndarray
    weights: np.ndarray

    @classmethod
    def random(cls, layer: Layer, config: AcceleratorConfig, seed: int = 0) -> Case:
        random = np.random.default_rng(seed)
        codes = random.integers(0, 256, (layer.ci, *layer.size, config.lane_block), np.uint8)
        shape = (layer.ci, *layer.kernel, layer.co, config.array.rows, config.array.cols)
        weights = random.integers(-128, 128, shape).astype(np.int8)
        return cls(layer, config, codes, weights)

    def instruction(self, **fields: int) -> Array:
        """The instruction; `fields` override or complete."""
        layer = self.layer
        (nt, ny, nx), (mt, my, mx) = layer.size, layer.algorithm.outputs
        tt, ty, tx = layer.tiles
        kt, ky, kx = layer.kernel
        pt, py, px = layer.padding
        spatial, temporal = layer.algorithm.spatial, layer.algorithm.temporal
        points = layer.algorithm.points
        point_t, outer_t = (points[0], 1) if temporal else (1, kt)
        pitch_y, pitch_t, pitch_c = nx, nx * ny, nx * ny * nt
        dt = layer.dilation_t
        step_t = mt * dt if temporal else layer.stride_t
        nest = (points[2], points[1], point_t, tx, ty, tt, outer_t, layer.ci)
        steps = (1, pitch_y, pitch_t * dt, mx, my * pitch_y, step_t * pitch_t)
        steps += (pitch_t * dt, pitch_c)
        first = -px - py * pitch_y - pt * pitch_t
        del ky, kx
        return Array(
            **{
                "mode": ArrayMode.HFA,
                "transform_t": temporal,
                "transform_s": spatial,
                "signed": layer.signed,
                "zero_point": layer.zero_point,
                "activation": first & 0xFFFF,
                "counts": (
                    *(tx, ty, tt, layer.co, points[2], points[1]),
                    *(point_t * outer_t, layer.ci),
                ),
                "deltas": deltas(nest, steps),
                "starts": (-px, -py, -pt),
                "steps": (1, 1, layer.stride_t),
                "dilations": (1, 1, dt),
                "bounds": (nx, ny, nt),
                **fields,
            }
        )

    def groups(self) -> np.ndarray:
        """Bytes of the weight memory."""
        pairs = []
        layer = self.layer
        for c in range(layer.ci):
            for tap in range(1 if layer.algorithm.temporal else layer.kernel_t):
                taps = self.weights[c] if layer.algorithm.temporal else self.weights[c, tap][None]
                # [kt, ky, kx, co, rows, cols] to [co, kt, ky, kx, rows, cols]
                pairs += list(np.moveaxis(taps, 3, 0))
        return pack_transformed_weights(np.stack(pairs), self.config.array.weight_rows_per_cycle)

    def _raw(self) -> tuple[np.ndarray, int]:
        """Raw s8 activations [ci, t, y, x, L] and the zero point as one."""
        flip = 0 if self.layer.signed else 0x80
        raw = (self.codes ^ np.uint8(flip)).view(np.int8).astype(np.int64)
        return raw, int(np.uint8(self.layer.zero_point ^ flip).view(np.int8))

    def accumulators(self) -> np.ndarray:
        """[co · points · tiles, cols] as the instruction leaves them."""
        layer, algorithm = self.layer, self.layer.algorithm
        raw, zero = self._raw()
        points, outputs = algorithm.points, algorithm.outputs
        taps = range(1 if algorithm.temporal else layer.kernel_t)
        total = np.zeros((layer.co, math.prod(points), math.prod(layer.tiles),
                          self.config.array.cols), np.int64)  # fmt: skip
        tiles = list(itertools.product(*map(range, layer.tiles)))
        for c, tap in itertools.product(range(layer.ci), taps):
            kernel = self.weights[c] if algorithm.temporal else self.weights[c, tap][None]
            # [co, rows, cols, taps] to v [co, rows, cols, points]
            v = algorithm.transform_weights(
                np.moveaxis(kernel, (0, 1, 2), (-3, -2, -1)).astype(np.int64)
            )
            for n, tile in enumerate(tiles):
                pixels = np.full((self.config.lane_block, *points), zero, np.int64)
                for place in itertools.product(*map(range, points)):
                    at = self._coordinate(tile, place, tap, outputs)
                    if all(0 <= a < s for a, s in zip(at, layer.size, strict=True)):
                        pixels[:, *place] = raw[c, *at]
                u = algorithm.transform_input(pixels)
                sums = np.einsum("rtyx,ortyxc->otyxc", u, np.moveaxis(v, 2, -1))
                total[:, :, n] += sums.reshape(layer.co, -1, sums.shape[-1])
        return wrap(total.reshape(-1, total.shape[-1]), self.config.memory.accumulator_bits)

    def _coordinate(self, tile, place, tap, outputs) -> tuple[int, ...]:
        layer = self.layer
        at = []
        for axis in range(3):
            position = tile[axis] * outputs[axis] + place[axis]
            step = layer.dilation[axis]
            if axis == 0 and not layer.algorithm.temporal:
                position, step = tile[0] * layer.stride_t + tap * layer.dilation_t, 1
            at.append(position * step - layer.padding[axis])
        return tuple(at)

    def results(self, accumulators: np.ndarray) -> np.ndarray:
        """Sums over raw activations [co · cols, t, y, x]; beyond a ragged edge is dropped."""
        layer, algorithm = self.layer, self.layer.algorithm
        cols = self.config.array.cols
        products = accumulators.reshape(layer.co, *algorithm.points, *layer.tiles, cols)
        products = np.moveaxis(products, (1, 2, 3), (-3, -2, -1))  # co, t, y, x, cols, points
        y = algorithm.transform_output(products, self.config.memory.accumulator_bits)
        y = y.transpose(0, 4, 1, 5, 2, 6, 3, 7)  # co, cols, t, mt, y, my, x, mx
        sizes = [t * m for t, m in zip(layer.tiles, algorithm.outputs, strict=True)]
        whole = y.reshape(layer.co * cols, *sizes)
        return whole[:, *(slice(n) for n in layer.outputs)]

    def direct(self) -> np.ndarray:
        """The same by torch: padded with the zero point, in float64 (exact here)."""
        layer = self.layer
        raw, zero = self._raw()
        channels = np.moveaxis(raw, -1, 1).reshape(-1, *layer.size)
        pads = [(0, 0), *((p, p) for p in layer.padding)]
        padded = np.pad(channels, pads, constant_values=zero)
        ci, kt, ky, kx, co, rows, cols = self.weights.shape
        kernel = self.weights.transpose(4, 6, 0, 5, 1, 2, 3)
        kernel = kernel.reshape(co * cols, ci * rows, kt, ky, kx)
        out = torch.nn.functional.conv3d(
            torch.from_numpy(padded[None].astype(np.float64)),
            torch.from_numpy(kernel.astype(np.float64)),
            stride=layer.stride,
            dilation=layer.dilation,
        )
        return out[0].numpy().astype(np.int64)
