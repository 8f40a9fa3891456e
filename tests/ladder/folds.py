"""Random FOLD and PERMUTE instructions that are valid by construction."""

from __future__ import annotations

from hw.arch.instructions.fold import MOST_SOFTMAX_ELEMENTS, STATISTICS
from hw.arch.isa import Fold, FoldOp, Load, Permute, PermuteOp, Space, deltas, strides
from tests.ladder.frame import Frame
from tests.ladder.linking import TABLES

Counts = tuple[int, int, int, int]
SOFTMAX_SLOTS = 4


class FoldDraws(Frame):
    """Draws into `code`; banks are chosen so that no instruction is in its own way."""

    @property
    def folds(self) -> bool:
        """Whether the machine has FOLD and PERMUTE."""
        return "fold" in self.config.features

    def load_tables(self) -> None:
        """Give every table a value; as exponentials none is below 2^20, so that no sum is."""
        beats = self.config.memory.tables * self.config.table_beats
        self.code.append(Load(dram=TABLES, space=Space.TABLE, beats=beats))

    def _counts(self, largest: int) -> Counts:
        counts = []
        left = largest
        for _ in range(4):
            count = self._draw(1, max(1, min(6, left)))
            left //= count
            counts.append(count)
        self.random.shuffle(counts)
        a, b, c, d = counts
        return a, b, c, d

    def _strided(self, counts: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
        """Deltas of rows in some order of the axes, and the rows that they span."""
        order = list(range(len(counts)))
        self.random.shuffle(order)
        stride, span = [0] * len(counts), 1
        for axis in order:
            stride[axis] = span
            span *= counts[axis]
        return deltas(counts, stride), span

    def _places(self, rows: list[int]) -> list[int]:
        """A first row for each of several spans, in banks of their own."""
        size = self.config.memory.activation_bank_rows
        banks = self.random.sample(range(self.config.memory.activation_banks), len(rows))
        return [
            bank * size + self._draw(0, size - count)
            for bank, count in zip(banks, rows, strict=True)
        ]

    def _limits(self) -> dict[str, int]:
        return {"low": self._draw(0, 20), "high": self._draw(100, 255)}

    def _valid(self) -> int:
        return self.random.choice((0, self._draw(1, self.config.lane_block)))

    def _table(self, slots: int = 1) -> int:
        return self._draw(1, self.config.memory.tables - slots + 1)

    def dot(self) -> None:
        """Scalar products per lane, over lanes, gathered."""
        draw = self._draw
        counts = self._counts(40)
        lanes = draw(0, 1)
        gather = lanes & draw(0, 1)
        first, rows = self._strided(counts)
        second, more = self._strided(counts)
        self._groups(FoldOp.DOT, counts, gather, (first, rows), (second, more), lanes=lanes,
                     zero_points=(draw(-128, 255), draw(-128, 255)), zero_point=draw(-20, 200),
                     multiplier=draw(1 << 23, (1 << 24) - 1), shift=draw(4, 11))  # fmt: skip

    def extreme(self) -> None:
        """The largest code of groups, or where it stands."""
        op = self.random.choice((FoldOp.MAX, FoldOp.ARGMAX))
        counts = self._counts(40)
        gather = 0
        if op is FoldOp.ARGMAX:
            counts = (counts[0] * counts[1], 1, *counts[2:])
        else:
            gather = self._draw(0, 1)
        first = self._strided(counts)
        # What is not read is not looked at.
        self._groups(op, counts, gather, first, first, multiplier=self._draw(0, (1 << 24) - 1),
                     zero_points=(self._draw(-256, 255), 3), zero_point=self._draw(-256, 255),
                     shift=self._draw(0, 31), lanes=self._draw(0, 1))  # fmt: skip

    def _groups(
        self,
        op: FoldOp,
        counts: Counts,
        gather: int,
        first: tuple[tuple[int, ...], int],
        second: tuple[tuple[int, ...], int],
        **fields: object,
    ) -> None:
        lanes = self.config.lane_block
        produced = (1, 1, -(-counts[2] // lanes) if gather else counts[2], counts[3])
        target, written = self._strided(produced)
        places = self._places([first[1], second[1], written])
        table = self.random.choice((0, self._table()))
        self.code.append(
            Fold(
                op=op,
                signed=(self._draw(0, 1), self._draw(0, 1)),
                counts=counts,
                source0=places[0],
                source0_deltas=first[0],
                source1=places[1],
                source1_deltas=second[0],
                destination=places[2],
                destination_deltas=target,
                gather=gather,
                valid=self._valid(),
                table=table,
                **self._limits(),
                **fields,  # type: ignore[arg-type]
            )
        )

    def softmax(self) -> None:
        """Exponentials summed in one or two passes, then applied; the maximum is any row."""
        draw = self._draw
        counts = self._counts(30)
        first, rows = self._strided(counts)
        second, more = self._strided(counts)
        target, written = self._strided(counts)
        places = self._places([rows, more, written])
        passes = draw(1, 2)
        common = {
            "counts": counts,
            "source0": places[0],
            "source0_deltas": first,
            "source1": places[1],
            "source1_deltas": second,
            "table": self._table(SOFTMAX_SLOTS),
            "entry": draw(0, STATISTICS - counts[2] * counts[3]),
            "multiplier": draw(1, (1 << 24) - 1) >> draw(0, 10),
            "valid": self._valid(),
            "elements": draw(1, MOST_SOFTMAX_ELEMENTS),
            "zero_points": (draw(-256, 255), draw(-256, 255)),
        }
        for number in range(passes):
            self.code.append(
                Fold(
                    op=FoldOp.SOFTMAX_COLLECT,
                    first=int(number == 0),
                    last=int(number == passes - 1),
                    **common,  # type: ignore[arg-type]
                )
            )
        self.code.append(
            Fold(
                op=FoldOp.SOFTMAX_APPLY,
                destination=places[2],
                destination_deltas=target,
                zero_point=draw(-128, 127),
                low=draw(-128, 0),
                high=draw(60, 127),
                **common,  # type: ignore[arg-type]
            )
        )

    def norm(self) -> None:
        """Sums of a map's positions in one or two passes, then applied position by position."""
        draw = self._draw
        # Elements e0, e1, e2 of positions (groups) p; COLLECT: e0, e1, p, 1; APPLY: p, e0, e1, 1.
        e0, e1, groups, _ = self._counts(30)
        first, rows = self._strided((e0, e1, groups))
        stride = strides((e0, e1, groups), first)
        coefficients = (6, e0, e1, 1)
        second, more = self._strided(coefficients)
        applied = (groups, e0, e1, 1)
        target, written = self._strided(applied)
        places = self._places([rows, more, written])
        common = {
            "source0": places[0],
            "signed": (draw(0, 1), draw(0, 1)),
            "entry": draw(0, STATISTICS - groups),
        }
        passes = draw(1, 2)
        # Elements that do not count may lie any number of deviations away; ε keeps that below 32.
        valid = self._valid() if e0 * e1 > 4 else 0
        elements = passes * (e0 * e1 * self.config.lane_block)
        if valid:
            elements -= passes * e1 * (self.config.lane_block - valid)
        least = (elements * 255 // 24) ** 2 if valid else 0
        for number in range(passes):
            self.code.append(
                Fold(
                    op=FoldOp.NORM_COLLECT,
                    counts=(e0, e1, groups, 1),
                    source0_deltas=deltas((e0, e1, groups, 1), (*stride, 0)),
                    first=int(number == 0),
                    last=int(number == passes - 1),
                    valid=valid,
                    elements=elements,
                    epsilon=max(least, draw(0, 1 << draw(0, 33))),
                    multiplier=self.random.choice((0, draw(0, (1 << 24) - 1) >> draw(0, 20))),
                    **common,  # type: ignore[arg-type]
                )
            )
        self.code.append(
            Fold(
                op=FoldOp.NORM_APPLY,
                counts=applied,
                source0_deltas=deltas(applied, (stride[2], stride[0], stride[1], 0)),
                source1=places[1],
                source1_deltas=second,
                destination=places[2],
                destination_deltas=target,
                elements=elements,
                coefficient_shift=draw(5, 28),
                zero_point=draw(-100, 200),
                table=self.random.choice((0, self._table())),
                valid=self._valid(),
                **self._limits(),
                **common,  # type: ignore[arg-type]
            )
        )

    def permute(self) -> None:
        """Selected or transposed bytes, into rows or beats of weights."""
        draw, lanes = self._draw, self.config.lane_block
        space = int("attention" in self.config.features and self.random.random() < 0.3)
        op = self.random.choice((PermuteOp.SELECT, PermuteOp.TRANSPOSE))
        counts = self._counts(40)
        produced = counts
        if op is PermuteOp.TRANSPOSE:
            counts = (draw(1, lanes), *counts[1:])
            produced = (lanes, *counts[1:])
        first, rows = self._strided(counts)
        second, more = self._strided(counts)
        target, written = self._strided(produced)
        places = self._places([rows, more, written])
        serial = int(op is PermuteOp.SELECT and draw(0, 1))
        if serial and draw(0, 1):
            places[1] = places[0]
        if space:
            # The first bank is LOAD's: windows of few taps have rows of zeros there.
            bank = self.config.weight_bank_beats
            last = min(self.config.weight_beats, 256 * self.config.weight_block_beats)
            places[2] = draw(bank, last - written)
        select = [draw(0, 2 * lanes - 1) for _ in range(lanes)] + [0] * (16 - lanes)
        self.code.append(
            Permute(
                op=op,
                serial=serial,
                counts=counts,
                source0=places[0],
                source0_deltas=first,
                source1=places[1],
                source1_deltas=second,
                destination=places[2],
                destination_deltas=target,
                space=space,
                select=tuple(select),
                valid=self.random.choice((draw(0, (1 << 16) - 1), (1 << lanes) - 1)),
                pad=draw(0, 255),
            )
        )
