"""How far the rounding of its constants may move a norm, and float32 that is noise."""

import numpy as np
import pytest
import torch

from compiler.ir import Normalize
from compiler.tensor import CompilerError
from models.reference import Reference
from proof.written import Written
from tests.compiler.frontend.agreement import agreed, written
from tests.compiler.frontend.single import codes, copy, imported
from tests.compiler.frontend.test_groups import OUT, Writer, X, coefficients, layer_norm
from tests.models.qdq import Q


def almost_constant(size, count=200, seed=3):
    """Groups of one code but for one element, by one to three."""
    rng = np.random.default_rng(seed)
    made = np.repeat(codes(rng, (count, 1)), size, axis=1).astype(np.int64)
    made[np.arange(count), rng.integers(0, size, count)] += rng.integers(0, 4, count)
    return np.clip(made, 0, 255).astype(np.uint8)


def norm_of(size, epsilon, behind, x, y, gamma, beta):
    writer = Writer((200, size), x)
    c = writer.centred()
    v = writer.mean(writer.op("Mul", c, c))
    if behind:
        root = writer.op("Add", writer.op("Sqrt", v), epsilon)
    else:
        root = writer.op("Sqrt", writer.op("Add", v, epsilon))
    made = writer.op("Mul", writer.op("Div", c, root), gamma)
    return writer.model(writer.op("Add", made, beta), y)


@pytest.mark.parametrize("seed", range(12))
def test_small_groups_at_any_scale(seed):
    """Compiler and oracle say the same of what they lose, and neither loses more in any group."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 24))
    gamma, beta = coefficients((size,), seed)
    x = Q(float(rng.uniform(0.002, 0.6)), int(rng.integers(0, 256)))
    y = Q(float(rng.uniform(0.005, 0.1)), int(rng.integers(0, 256)))
    epsilon = float(10 ** rng.uniform(-6, -2))
    model = norm_of(size, epsilon, bool(seed % 2), x, y, gamma, beta)
    feeds = {"x": np.concatenate([almost_constant(size)[:150], codes(rng, (50, size))])}
    agreed(model, feeds)
    found = written(model, feeds)["norm"]
    assert found.beyond == 0
    (op,) = [op for op in imported(model).ops if isinstance(op, Normalize)]
    (group,) = [g for g in Reference(copy(model)).groups if g.form == "norm"]
    assert group.lost / y.scale == pytest.approx(op.constants.off, rel=1e-6)
    assert op.constants.off < 1 / 8 + 1 / 32


def noisy():
    """BERT's ε at a gain of 40 steps: the mean of equal elements is not quite their value."""
    gamma, beta = coefficients((9,))
    return norm_of(9, 1e-12, False, Q(0.0713, 3), OUT, gamma, beta)


def test_where_float_is_noise_its_nodes_in_double_decide():
    feeds = {"x": almost_constant(9)}
    agreed(noisy(), feeds)
    found = written(noisy(), feeds)["norm"]
    assert found.noise > 20 and found.steps > 1 and found.beyond == 0


def test_a_wrong_result_among_noise_is_found():
    reference, feeds = Reference(copy(noisy())), {"x": almost_constant(9)}
    (group,) = [g for g in reference.groups if g.form == "norm"]
    (right,) = (made.numpy() for g, made, _ in reference.steps(feeds) if g is group)
    held = Written(reference.graph)
    (name,) = held.reads(group)
    tensors = {name: torch.from_numpy(feeds["x"]).numpy()}
    held.check(group, right, tensors)
    for step in (1, 2):
        wrong = right.copy()
        wrong[7, 2] += step
        with pytest.raises(CompilerError, match=r"differs from the file's own nodes at \[7, 2\]"):
            held.check(group, wrong, tensors)


@pytest.mark.parametrize("size", [8, 12])
def test_the_operator_is_held_the_same_way(size):
    gamma, beta = coefficients((size,))
    model = layer_norm((200, size), gamma, beta, x=X, epsilon=1e-7)
    feeds = {"x": almost_constant(size)}
    agreed(model, feeds)
    assert written(model, feeds)["norm"].beyond == 0
