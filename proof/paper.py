"""What is proven at paper size, and where: rows of the table of `proof.families`.

RTL runs what it can do in minutes: whole networks up to some 40 Mcycles, of larger ones a frame
or layers of their own (`models cut`), with codes that the whole network makes there.
"""

from __future__ import annotations

import dataclasses

FUNCTIONAL = "not run: functional only, its parts are rows"
ALONE = "not run: functional only"
INSIDE = "inside="
"""Begins a variant that is the layers of tensors whose names begin with what follows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Paper:
    """A network, or layers of it.

    Attributes
    ----------
    network: its name.
    variant: of it; or `INSIDE` and beginnings of names, separated by "+", of the layers alone.
    unrun: why RTL is left out; empty if it is not.
    """

    network: str
    variant: str = ""
    unrun: str = ""


ENCODERS = ("vtn_resnet34", "vtn_resnet50", "vtn_mobilenetv2", "vtn_seresnext101")
ROWS = (
    Paper("vtn_decoder"),
    Paper("vtn_resnet34", unrun=FUNCTIONAL),
    Paper("vtn_mobilenetv2", unrun=FUNCTIONAL),
    *(Paper(name, "part=encoder") for name in ENCODERS),
    Paper("xwisenet"),
    Paper("fasttrg"),
    *(Paper(f"r3d18_{kind}", unrun=ALONE) for kind in ("trad", "st", "dw", "x")),
    Paper("eacnet_r50", unrun=FUNCTIONAL),
    *(Paper("eacnet_r50", f"inside=/{part}/") for part in ("mgte.4", "mgte.5", "ate")),
)
