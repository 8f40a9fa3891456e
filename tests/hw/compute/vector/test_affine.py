"""Affine pipeline against float32 and exact rational arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from hw.arch.isa import FIXED_POINT
from hw.arch.numerics import Affine, Factor, Mean, Product
from hw.arch.timing import AFFINE_LATENCY
from hw.compute.vector.affine import NORMAL_DELAY, AffineLane, Combine

pytestmark = pytest.mark.rtl
ONE = Factor.of(1.0)
NOTHING = Factor(0, 0)


def round_float(value: Fraction) -> Fraction:
    """Nearest float32 (unbounded exponent), half to even, of an exact number."""
    if value == 0:
        return value
    magnitude, exponent = abs(value), 0
    while magnitude >= 1 << 24:
        magnitude, exponent = magnitude / 2, exponent + 1
    while magnitude < 1 << 23:
        magnitude, exponent = magnitude * 2, exponent - 1
    rounded = Fraction(round(magnitude)) * Fraction(2) ** exponent  # round(): half to even
    return rounded if value > 0 else -rounded


def simulate(u, w, ra=ONE, rb=NOTHING, k=NOTHING, combine=Combine.ADD, zero_point=0, limits=None):
    m = Module()
    m.submodules.lane = lane = AffineLane()
    sim = Simulator(m)
    sim.add_clock(1e-8)
    low, high = limits or (-256, 255)
    sign = -1 if rb.negative else 1
    codes = []

    async def drive(ctx) -> None:
        ctx.set(lane.stages, (1 << AFFINE_LATENCY) - 1)
        fields = {
            "ra_multiplier": ra.multiplier,
            "ra_shift": ra.shift,
            "rb_multiplier": rb.multiplier,
            "rb_shift": rb.shift,
            "k": k.fixed,
            "combine": combine,
            "zero_point": zero_point,
            "low": low,
            "high": high,
        }
        for name, value in fields.items():
            ctx.set(lane.parameters[name], value)
        for left, right in zip(u, w, strict=True):
            ctx.set(lane.u, sign * int(left))
            ctx.set(lane.w, int(right))
            codes.append((await ctx.tick().sample(lane.code))[2])
        for _ in range(AFFINE_LATENCY):
            codes.append((await ctx.tick().sample(lane.code))[2])  # noqa: PERF401

    sim.add_testbench(drive)
    sim.run()
    return codes[AFFINE_LATENCY:]


def clamp(value, low: int, high: int) -> int:
    return int(min(max(value, low), high))


def pairs(count: int, seed: int, low: int = 0, high: int = 256):
    random = np.random.default_rng(seed)
    return random.integers(low, high, count), random.integers(low, high, count)


ADDITIONS = [
    # sa, za, sb, zb, sy, zy
    (0.02, 3, 0.05, 128, 0.04, 100),
    (0.5, 0, 0.25, 0, 0.5, 0),  # exact halves
    (1.7, 255, 0.013, 0, 0.9, 17),
    (0.003, 128, 0.9, 7, 0.005, 255),
]


def exact_addition(a, b, parameters, subtract: bool):
    """QLinearAdd (or a difference) in rational arithmetic with explicit float32 roundings."""
    sa, za, sb, zb, sy, zy = parameters
    ra = Fraction(float(np.float32(np.float32(sa) / np.float32(sy))))
    rb = Fraction(float(np.float32(np.float32(sb) / np.float32(sy))))
    rb = -rb if subtract else rb
    inner = round_float(ra * za + round_float(rb * zb))
    k = round_float((0 if subtract else zy) - inner)
    return [
        round(round_float(int(x) * ra + round_float(int(y) * rb + k))) + (zy if subtract else 0)
        for x, y in zip(a, b, strict=True)
    ]


@pytest.mark.parametrize("parameters", ADDITIONS)
@pytest.mark.parametrize("subtract", [False, True], ids=["add", "subtract"])
def test_affine_equals_rational_arithmetic(parameters, subtract):
    a, b = pairs(400, 1)
    build = Affine.subtract if subtract else Affine.add
    affine = build(*parameters)
    codes = simulate(b, a, affine.ra, affine.rb, affine.k, zero_point=affine.zero_point)
    expected = [clamp(v, -256, 255) for v in exact_addition(a, b, parameters, subtract)]
    assert codes == expected
    assert codes == list(affine(a, b, -256, 255))


def test_a_changed_operand_shows():
    parameters = ADDITIONS[0]
    a, b = pairs(50, 1)
    affine = Affine.add(*parameters)
    codes = simulate(b, a + 1, affine.ra, affine.rb, affine.k, zero_point=affine.zero_point)
    assert codes != [clamp(v, -256, 255) for v in exact_addition(a, b, parameters, False)]


def test_product_equals_float32():
    sa, za, sb, zb, sy, zy = 0.013, 12, 0.031, 250, 0.0021, 3
    product = Product.of(sa, za, sb, zb, sy, zy)
    a, b = pairs(400, 2)
    p = (a - za) * (b - zb)
    codes = simulate(p, np.full(a.size, zy), rb=product.scale, limits=(0, 255))
    scale = np.float32(np.float32(np.float32(sa) * np.float32(sb)) / np.float32(sy))
    value = np.rint(p.astype(np.float32) * scale + np.float32(zy))
    assert codes == list(np.clip(value, 0, 255).astype(int))
    assert codes == list(product(a, b, 0, 255))


def test_mean_equals_float32():
    mean = Mean.of(0.02, 0.03, 11, 49)
    total = np.random.default_rng(3).integers(-49 * 255, 49 * 255 + 1, 400)
    total[:2] = [-(1 << 24) // 3, (1 << 24) // 3]
    codes = simulate(total, np.zeros(400, int), rb=mean.scale, zero_point=11, limits=(-128, 127))
    scale = np.float32(np.float32(0.02) / np.float32(np.float32(0.03) * np.float32(49)))
    value = np.rint(total.astype(np.float32) * scale) + 11
    assert codes == list(np.clip(value, -128, 127).astype(int))


@pytest.mark.parametrize(("combine", "choose"), [(Combine.MAX, max), (Combine.MIN, min)])
def test_maximum_of_scaled_values(combine, choose):
    a, b = pairs(300, 4, -128, 128)
    ra, rb, k = Factor.of(0.7), Factor.of(-1.3), Factor.of(-2.5)
    codes = simulate(b, a, ra, rb, k, combine, zero_point=-4)
    grid = 1 << FIXED_POINT
    expected = []
    for x, y in zip(a, b, strict=True):
        first = round_float(Fraction(int(x) * ra.fixed, grid))
        second = round_float(Fraction(int(y) * rb.fixed + k.fixed, grid))
        expected.append(clamp(round(choose(first, second)) - 4, -256, 255))
    assert codes == expected


def test_unit_scale_is_the_identity():
    values = np.arange(-128, 256)
    assert simulate(np.zeros(values.size, int), values) == list(values)


def simulate_norm(elements, scale, ra_shift, zero_point, limits):
    """Codes of (u, G, B), one per cycle; G and B come when the second product takes them."""
    m = Module()
    m.submodules.lane = lane = AffineLane(normalises=True)
    sim = Simulator(m)
    sim.add_clock(1e-8)
    latency = AFFINE_LATENCY + NORMAL_DELAY
    codes = []

    async def drive(ctx) -> None:
        ctx.set(lane.stages, (1 << AFFINE_LATENCY) - 1)
        ctx.set(lane.first_stages, 3)
        ctx.set(lane.normal, 1)
        fields = {
            "rb_multiplier": scale[0],
            "rb_shift": scale[1],
            "ra_shift": ra_shift,
            "zero_point": zero_point,
            "low": limits[0],
            "high": limits[1],
        }
        for name, value in fields.items():
            ctx.set(lane.parameters[name], value)

        def at(cycle: int, place: int) -> int:
            return int(elements[cycle][place]) if 0 <= cycle < len(elements) else 0

        for cycle in range(len(elements) + latency):
            ctx.set(lane.u, at(cycle, 0))
            ctx.set(lane.gain, at(cycle - 6 - NORMAL_DELAY, 1))
            ctx.set(lane.bias, at(cycle - 8 - NORMAL_DELAY, 2))
            codes.append((await ctx.tick().sample(lane.code))[2])

    sim.add_testbench(drive)
    sim.run()
    return codes[latency:]


def exact_norm(u, gain, bias, scale, ra_shift, zero_point, limits):
    """The second form in rational arithmetic: two roundings of 24 bits, one to 2^-16, one to 1."""
    grid = Fraction(1, 1 << FIXED_POINT)
    unit = round(round_float(u * (scale[0] << scale[1]) * grid) * (1 << 16))
    value = round_float((unit * gain << ra_shift) * grid + Fraction(bias, 1 << 14))
    return clamp(round(value) + zero_point, *limits)


@pytest.mark.parametrize(("deviation", "fraction"), [(37, 17), (2000, 28), (120000, 5)])
def test_norm_equals_rational_arithmetic(deviation, fraction):
    """Elements up to four deviations away, R of 24 bits, G and B up to their widths."""
    random = np.random.default_rng(deviation)
    shift = 20
    scale = (round(2.0 ** (FIXED_POINT - shift) / deviation), shift)
    while scale[0] >= 1 << 24:
        scale = (scale[0] >> 1, scale[1] + 1)
    count = 200
    elements = list(
        zip(
            random.integers(-4 * deviation, 4 * deviation + 1, count).tolist(),
            random.integers(-(1 << 17), 1 << 17, count).tolist(),
            random.integers(-(1 << 23), 1 << 23, count).tolist(),
            strict=True,
        )
    )
    elements[:3] = [(0, 5, 1 << 13), (deviation, 1 << 16, -(1 << 13)), (deviation, 0, 3 << 13)]
    arguments = (scale, FIXED_POINT - 16 - fraction, 3, (-256, 255))
    codes = simulate_norm(elements, *arguments)
    assert codes == [exact_norm(*element, *arguments) for element in elements]
    assert codes != [exact_norm(u, g, b ^ 0x8000, *arguments) for u, g, b in elements]
