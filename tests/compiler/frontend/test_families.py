"""Every variant of every family at tiny: read whole, and the oracle's to the bit."""

import numpy as np
import pytest

from compiler import interpreter
from compiler.onnx_import import import_onnx
from models.export import export
from models.reference import Reference
from models.registry import ENTRIES
from tests.compiler.frontend.test_networks import recorded

BY_DEFAULT = {
    "vtn_decoder": ("", "scale=model"),
    "vtn_online": ("",),
    "eacnet_r50": ("",),
    "xwisenet": ("context=gc",),
    "liteeval_fine": ("fine=dpn107",),
}
BRANCHING = ("liteeval", "liteeval_clip")
"""With If and Loop, which have tests of their own."""
CASES = [
    pytest.param(
        *(name, variant), marks=() if variant in BY_DEFAULT.get(name, ()) else pytest.mark.slow
    )
    for name, entry in ENTRIES.items()
    for variant in entry.variants("tiny")
    if name not in BRANCHING
]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_every_tensor_equals_the_oracle(name, variant, tmp_path):
    path = export(name, tmp_path / "network.onnx", "tiny", variant=variant).onnx
    imported = import_onnx(path)
    assert imported.unsupported == ()
    graph, feeds = imported.graph, recorded(path)
    reference = Reference(path)
    results = interpreter.run(graph, feeds)
    known = [n for n in results if n in reference.graph.names]
    theirs = reference.run(feeds, keep=known)
    assert len(known) > len(results) // 2
    for value in known:
        assert np.array_equal(results[value].reshape(-1), theirs[value].reshape(-1)), value
    for port in graph.outputs:
        mine = interpreter.output(graph, port, results[port.value])
        whole = reference.run(feeds, keep=[port.onnx_name])[port.onnx_name]
        assert np.array_equal(mine, whole)
        assert not np.array_equal(mine, whole[..., ::-1])
