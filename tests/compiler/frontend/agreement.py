"""One model in compiler, oracle, and ONNX Runtime as the file is written."""

import numpy as np
import onnx
import torch

from models.reference import Reference
from proof.written import Figures, Written
from tests.compiler.frontend.single import copy, imported, outputs


def agreed(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The only output, as the interpreter makes it: the oracle's to the bit."""
    mine = outputs(imported(model), feeds)[0]
    name = model.graph.output[0].name
    theirs = Reference(copy(model)).run(feeds, keep=[name])[name]
    assert (mine.shape, mine.dtype) == (theirs.shape, theirs.dtype)
    assert np.array_equal(mine, theirs)
    return mine


def written(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> dict[str, Figures]:
    """The proof's figures: the oracle against the file's own nodes, in float, by form.

    CompilerError where a limit of the proof is broken.
    """
    reference = Reference(copy(model))
    held = Written(reference.graph)
    alive = {name: torch.from_numpy(value) for name, value in feeds.items()}
    for group, made, tensors in reference.steps(feeds):
        if held.concerns(group):
            known = {**alive, **tensors}
            held.check(group, made.numpy(), {n: known[n].numpy() for n in held.reads(group)})
        alive[group.output] = made
    assert not held.unproven, held.unproven
    return held.figures
