"""What the forms build on: quantized tensors, and how they are read and made."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fuzz.choices import Choices
from fuzz.style import Style
from fuzz.writer import Writer

Floats = npt.NDArray[np.float32]
SAMPLES = 48
LARGEST = 6000
"""Elements of a tensor."""


class Unsuitable(Exception):  # noqa: N818 - not an error: another form is tried
    """A form cannot be applied to the tensors that there are."""


@dataclasses.dataclass(eq=False, slots=True)
class Value:
    """A quantized activation.

    Attributes
    ----------
    shape: as ONNX sees it.
    scale, zero, dtype: quantization.
    sample: real values that it may take; from them the range of what comes next is guessed.
    codes: name of the integer tensor; empty for a float tensor that only stands for codes.
    real: name of the float tensor; empty as long as nothing dequantizes it.
    exact: whether `real` may be read instead of a DequantizeLinear of one's own.
    tokens: [1, tokens, features] rather than channels first.
    readers: how often it was read.
    """

    shape: tuple[int, ...]
    scale: np.float32
    zero: int
    dtype: Any
    sample: Floats
    codes: str = ""
    real: str = ""
    tokens: bool = False
    readers: int = 0

    def same_type(self, other: Value) -> bool:
        """Whether codes of both mean the same reals."""
        return (self.scale, self.zero, self.dtype) == (other.scale, other.zero, other.dtype)


class Bench:
    """Where a graph is built.

    Parameters
    ----------
    style: how to write.
    c: choices of the step that is being written; replaced for each.

    Members
    -------
    writer: the file so far.
    values: tensors that steps may read, in the order in which they were made.
    forms: what the graph holds, by name.
    """

    def __init__(self, style: Style, c: Choices) -> None:
        self.style = style
        self.c = c
        self.writer = Writer(style)
        self.values: list[Value] = []
        self.forms: Counter[str] = Counter()

    def form(self, *names: str) -> None:
        """Note forms that the graph now holds."""
        self.forms.update(names)

    def extra(self) -> bool:
        """Whether to do something unusual here."""
        return self.style.extra > 0 and self.c.chance(self.style.extra)

    # Choosing operands --------------------------------------------------------------------

    def value(self, *ranks: int, fits: Any = None) -> Value:
        """A tensor to read, most often the newest; of one of these ranks (any if none given)."""
        fitting = [
            v
            for v in self.values
            if (not ranks or len(v.shape) in ranks) and (fits is None or fits(v))
        ]
        if not fitting:
            raise Unsuitable
        newest = fitting[::-1]
        weights = [0.45**i + (0.3 if not v.readers else 0.02) for i, v in enumerate(newest)]
        return self.c.pick(newest, weights)

    def spatial(self, *ranks: int) -> Value:
        """A channels-first map to read."""
        return self.value(*(ranks or (3, 4, 5)), fits=lambda v: not v.tokens)

    # Reading ------------------------------------------------------------------------------

    def read(self, value: Value) -> str:
        """Float name of a tensor; appends the DequantizeLinear that it needs."""
        value.readers += 1
        if value.real and (not value.codes or (self.style.shared and not self.c.chance(10))):
            return value.real
        real = self.dequantize(value.codes, value.scale, value.zero, value.dtype)
        if not value.real:
            value.real = real
        return real

    def integer(self, value: Value) -> str:
        """Name of the codes of a tensor."""
        if not value.codes:
            raise Unsuitable
        value.readers += 1
        return value.codes

    def dequantize(self, codes: str, scale: Any, zero: int, dtype: Any) -> str:
        """Append a DequantizeLinear."""
        inputs = [codes, self.writer.constant(np.float32(scale), "scale")]
        if not (zero == 0 and self.style.zero_points != "given" and self.c.chance(70)):
            inputs.append(self.writer.constant(np.asarray(zero, dtype), "zero"))
        else:
            self.form("dequantize.no_zero_point")
        return self.writer.node("DequantizeLinear", inputs)

    # Making -------------------------------------------------------------------------------

    def quantization(self, sample: Floats) -> tuple[np.float32, int, Any]:
        """Scale, zero point and type for reals like these."""
        dtype = self.style.dtype
        if self.style.mixed and self.style.signed and sample.min() >= 0:
            self.form("activations.mixed")
            dtype = np.uint8
        low, high = min(float(sample.min()), 0.0), max(float(sample.max()), 0.0)
        slack = 0.6 + 0.2 * self.c.below(5)
        low, high = low * slack, high * slack
        if high - low < 0.02:
            high = low + 0.02
        limits = np.iinfo(dtype)
        if self.style.symmetric and low < 0:
            scale = self.rounded(max(-low, high) / 127)
            return scale, 0 if dtype is np.int8 else 128, dtype
        scale = self.rounded((high - low) / 255)
        zero = int(np.clip(np.rint(limits.min - low / float(scale)), limits.min, limits.max))
        return scale, zero, dtype

    def rounded(self, scale: float) -> np.float32:
        """A scale as the style writes it."""
        match self.style.scales:
            case "short":
                digits = 1 - math.floor(math.log10(scale))
                return np.float32(max(round(scale, digits), 10.0**-digits))
            case "power":
                return np.float32(2.0 ** round(math.log2(scale)))
            case _:
                return np.float32(scale)

    def quantize(self, real: str, scale: np.float32, zero: int, dtype: Any) -> str:
        """Append a QuantizeLinear."""
        inputs = [real, self.writer.constant(scale, "scale")]
        omitted = zero == 0 and self.style.zero_points != "given"
        if omitted and self.style.zero_points == "output_dtype" and not self.c.chance(30):
            kind = {np.uint8: 2, np.int8: 3}[dtype]
            self.form("quantize.output_dtype")
            return self.writer.node("QuantizeLinear", inputs, output_dtype=kind)
        if omitted and dtype is np.uint8 and not self.c.chance(30):
            self.form("quantize.no_zero_point")
            return self.writer.node("QuantizeLinear", inputs)
        inputs.append(self.writer.constant(np.asarray(zero, dtype), "zero"))
        return self.writer.node("QuantizeLinear", inputs)

    def quantized(
        self,
        real: str,
        shape: Sequence[int],
        sample: Floats,
        like: Value | None = None,
        tokens: bool = False,
    ) -> Value:
        """Append the quantizer behind an operator; the tensor is known from then on.

        Parameters
        ----------
        like: keep the quantization of this tensor (moves).
        """
        if like is None:
            scale, zero, dtype = self.quantization(sample)
        else:
            scale, zero, dtype = like.scale, like.zero, like.dtype
        codes = self.quantize(real, scale, zero, dtype)
        if self.style.opset >= 12 and self.extra() and self.c.chance(12):
            codes = self._clipped(codes, dtype)
        return self.made(Value(tuple(shape), scale, zero, dtype, sample, codes, tokens=tokens))

    def _clipped(self, codes: str, dtype: Any) -> str:
        """Append a Clip on codes, as Brevitas narrows a range."""
        limits = np.iinfo(dtype)
        low, high = limits.min + 1 + self.c.below(30), limits.max - self.c.below(30)
        bounds = [self.writer.constant(np.asarray(n, dtype), "bound") for n in (low, high)]
        self.form("clip.codes")
        return self.writer.node("Clip", [codes, *bounds])

    def made(self, value: Value) -> Value:
        """Let later steps read a tensor."""
        if math.prod(value.shape) > LARGEST:
            raise Unsuitable
        self.values.append(value)
        return value


def mixed(*samples: Floats) -> Floats:
    """A sample of reals that come from several tensors."""
    return np.resize(np.concatenate(samples)[:: len(samples)], SAMPLES).astype(np.float32)


def spread(sample: Floats, fan_in: int, scale: float, rng: np.random.Generator) -> Floats:
    """A sample of sums of products with `fan_in` weights of this standard deviation."""
    power = math.sqrt(float(np.mean(sample.astype(np.float64) ** 2)) + 1e-12)
    return np.asarray(rng.normal(0, power * scale * math.sqrt(fan_in), SAMPLES), np.float32)
