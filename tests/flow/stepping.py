"""Networks with states, built by command, fed step by step, and rolled by ONNX Runtime."""

import numpy as np
import onnx

from compiler.__main__ import main as compiler_main
from models.reference import Reference
from tests.flow import recurrent

STEPS = 5


def built(net, pairs, folder, *words):
    """Exit code; the build lies in `folder`/build."""
    onnx.save(recurrent.declared(net, pairs), folder / "net.onnx")
    target = str(folder / "build")
    return compiler_main(
        ["build", str(folder / "net.onnx"), "--config", "tiny", "-o", target, *words]
    )


def fed(net, pairs, folder, count=STEPS, seed=0):
    names = [v.name for v in net.inputs if v.name not in pairs]
    arrays = recurrent.feeds(net, names, count, seed)
    np.savez(folder / "in.npz", **arrays)
    return arrays


def rolled(net, pairs, arrays, states):
    """Outputs of every step by the oracle, from its own states on."""
    reference, made = Reference(net.model()), []
    for n in range(len(next(iter(arrays.values())))):
        inputs = {k.removeprefix("steps:input:"): v[n] for k, v in arrays.items()}
        made.append(reference.run(inputs | states, keep=reference.output_names))
        states = {name: made[-1][output] for name, output in pairs.items()}
    return {name: np.stack([each[name] for each in made]) for name in made[0]}


def zeros(net, pairs):
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in net.inputs}
    return {name: np.zeros(shapes[name], np.float32) for name in pairs}
