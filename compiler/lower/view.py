"""Lowering of views: nothing moves."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.lower.base import Lanes, Unmoved
from compiler.ops import View
from compiler.policy import Policy
from compiler.tensor import TensorType
from hw.arch.config import AcceleratorConfig
from hw.arch.layout import TensorLayout


class ViewLowering(Unmoved[View]):
    """T, H and W are cut otherwise; the bytes are the same."""

    operation = View
    limits = ()

    def kind(self, op: View, config: AcceleratorConfig) -> str:
        """One kind."""
        return "view"

    def refusal(
        self,
        op: View,
        inputs: Sequence[TensorType],
        output: TensorType,
        config: AcceleratorConfig,
        policy: Policy | None,
    ) -> str | None:
        """It needs nothing."""
        return None

    def contract(
        self, op: View, sources: Sequence[TensorLayout], result: TensorLayout
    ) -> str | None:
        """One map: the bytes are the same."""
        same = sources[0].lane_map == result.lane_map
        return None if same else "a view has its operand's lanes"

    def lanes(self, op: View) -> Lanes:
        """The operand's."""
        return Lanes.KEPT

    def keeps_bytes(self, op: View) -> bool:
        """Always."""
        return True


LOWERING = ViewLowering()
