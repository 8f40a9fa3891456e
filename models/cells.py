"""Recurrent cells written out as the linear layers and elementwise operators that they are.

Quantizers leave ONNX's LSTM and GRU nodes in float; written out, every matrix is a Gemm and
every gate a table. Parameters have the values of torch's own cells: weight_ih and weight_hh are
`input` and `hidden` here, gates in torch's order (i, f, g, o; r, z, n).
"""

import torch
from torch import nn

States = tuple[torch.Tensor, torch.Tensor | None]


class Cell(nn.Module):
    """A cell: (x, h, c) → (h, c).

    Attributes
    ----------
    uses_hidden, uses_cell: which of h and c the next step needs; the other may be None.
    """

    uses_hidden = True
    uses_cell = True

    def __init__(self, inputs: int, width: int):
        super().__init__()
        self.inputs, self.width = inputs, width

    def draw(self, generator: torch.Generator) -> list[nn.Module]:
        """Draw what a state is multiplied with, so that it neither grows nor dies out.

        Returns the layers drawn; those that see the input alone are not among them.
        """
        hidden = self.hidden
        hidden.weight.normal_(0, 1.5 / self.width**0.5, generator=generator)
        hidden.bias.zero_()
        return [hidden]


class LstmCell(Cell):
    """Long short-term memory; [N, inputs], [N, width], [N, width] → twice [N, width]."""

    def __init__(self, inputs: int, width: int):
        super().__init__(inputs, width)
        self.input, self.hidden = nn.Linear(inputs, 4 * width), nn.Linear(width, 4 * width)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: torch.Tensor) -> States:
        """One step."""
        gates = self.input(x) + self.hidden(h)
        i, f, g, o = gates.chunk(4, dim=1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class GruCell(Cell):
    """Gated recurrent unit with the reset after the product (linear_before_reset)."""

    uses_cell = False

    def __init__(self, inputs: int, width: int):
        super().__init__(inputs, width)
        self.input, self.hidden = nn.Linear(inputs, 3 * width), nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor, h: torch.Tensor, c: None = None) -> States:
        """One step."""
        xr, xz, xn = self.input(x).chunk(3, dim=1)
        hr, hz, hn = self.hidden(h).chunk(3, dim=1)
        n = torch.tanh(xn + torch.sigmoid(xr + hr) * hn)
        return n + torch.sigmoid(xz + hz) * (h - n), None


class SruCell(Cell):
    """Simple recurrent unit (Lei et al. 2018): no matrix on the state.

    A fourth part of the product replaces x in the highway where widths differ.
    """

    uses_hidden = False

    def __init__(self, inputs: int, width: int):
        super().__init__(inputs, width)
        self.parts = 3 if inputs == width else 4
        self.input = nn.Linear(inputs, self.parts * width, bias=False)
        self.forget, self.reset = (nn.Parameter(torch.zeros(width)) for _ in range(2))
        self.forget_bias, self.reset_bias = (nn.Parameter(torch.zeros(width)) for _ in range(2))

    def draw(self, generator: torch.Generator) -> list[nn.Module]:
        """Draw the vectors that multiply the state."""
        for vector in (self.forget, self.reset, self.forget_bias, self.reset_bias):
            vector.normal_(0, 0.5, generator=generator)
        return []

    def forward(self, x: torch.Tensor, h: None, c: torch.Tensor) -> States:
        """One step."""
        parts = self.input(x).chunk(self.parts, dim=1)
        candidate, forget, reset = parts[:3]
        highway = x if self.parts == 3 else parts[3]
        f = torch.sigmoid(forget + self.forget * c + self.forget_bias)
        r = torch.sigmoid(reset + self.reset * c + self.reset_bias)
        c = candidate + f * (c - candidate)
        return highway + r * (c - highway), c


CELLS: dict[str, type[Cell]] = {"lstm": LstmCell, "gru": GruCell, "sru": SruCell}
