"""One file through everything, and what is wrong with what came out.

Two truths. To the bit: every tensor that the program stores equals the oracle. Within half a step:
every code, made by one operator from given codes, is the nearest to what the file's own nodes make
of them in float, except where that lies half-way between two codes as far as float32 can tell; in
float64, where a norm's float32 is noise.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from fuzz.double import between, in_double
from fuzz.feeds import make_feeds
from fuzz.product import Crash, Product, Run, Stored, names_a_node, normal
from fuzz.truth import Code, Nodes, Operators, Refused, whole

Array = npt.NDArray[Any]
Arrays = dict[str, Array]
SLACK = 0.02
"""Steps beyond one half by which a code may be off: what sums and products in float32 cost."""
BIAS = 0.125
"""The same where a bias or an offset per channel is real or has a scale of its own: it is rounded
to the accumulator's unit. The product refuses what misses an offset by more (docs/numerics.md)."""
NORM = 0.15
"""The same behind a norm, whose constants are rounded: ε where a group is all but constant."""
OPERATOR = re.compile(r"\(\w+\)")
MANY = 0.05
"""Share of the elements that may be one step off where no real says which lie half-way."""


@dataclasses.dataclass(slots=True)
class Verdict:
    """How a file fared.

    Attributes
    ----------
    outcome: ``accepted``, ``refused``, ``wrong``, or ``invalid`` (ONNX Runtime refuses the file).
    kind: what is wrong or why it was refused, without names and numbers.
    detail: the same with them.
    deviations: by operator, (elements off by at most one step, elements compared).
    """

    outcome: str
    kind: str = ""
    detail: str = ""
    deviations: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)


class Wrong(Exception):  # noqa: N818 - a finding
    """A difference; `kind` has no names."""

    def __init__(self, kind: str, detail: str) -> None:
        self.kind = kind
        super().__init__(f"{kind}: {detail}")


def judge(product: Product, model: onnx.ModelProto, feeds: Arrays | None = None) -> Verdict:
    """Try a file.

    Parameters
    ----------
    product: the toolkit.
    model: the file.
    feeds: inputs; made from the file if not given.
    """
    given = make_feeds(model) if feeds is None else feeds
    try:
        expected = whole(model, given)
    except Refused as error:
        return Verdict("invalid", normal(str(error), model), str(error))
    file = product.folder / "graph.onnx"
    file.write_bytes(model.SerializeToString())
    try:
        return _tried(product, model, file, given, expected)
    except Crash as crash:
        return Verdict("wrong", f"traceback: {crash.where}", str(crash))
    except Wrong as wrong:
        return Verdict("wrong", wrong.kind, str(wrong))
    except Refused as error:  # the truth cannot be had: the fuzzer's fault, and counted so
        return Verdict("invalid", normal(str(error), model), str(error))


def _tried(
    product: Product, model: onnx.ModelProto, file: Path, feeds: Arrays, expected: Arrays
) -> Verdict:
    checked = product.check(file)
    built = product.build(file)
    if bool(checked) != bool(built):
        says = OPERATOR.sub("(OP)", normal(built or checked, model))
        which = "builds" if checked else "does not build"
        raise Wrong(f"check and build: {which}: {says}", f"check: {checked!r}; build: {built!r}")
    if checked:
        for message in (checked, built):
            if not names_a_node(message, model):
                raise Wrong(f"a refusal names no node: {normal(message, model)}", message)
        return Verdict("refused", normal(checked, model), checked)
    run = product.run(feeds)
    if isinstance(run, str):
        raise Wrong(f"cannot run: {normal(run, model)}", run)
    nodes = Nodes(model)
    keep = {*nodes.codes, *run.tensors, *(v.name for v in model.graph.output)}
    reference = product.reference(model, feeds, keep)
    if isinstance(reference, str):
        compare_outputs(model, run, expected)
        raise Wrong(f"oracle refuses: {normal(reference, model)}", reference)
    deviations = compare(nodes, feeds, run, reference)
    if product.settings.command:
        _command(product, run, model)
    if product.settings.rtl:
        _against_rtl(run, product.run(feeds, "rtl"), model)
    return Verdict("accepted", deviations=deviations)


def compare(nodes: Nodes, feeds: Arrays, run: Run, reference: Arrays) -> dict[str, tuple[int, int]]:
    """Both truths on a run.

    Returns
    -------
    By operator, elements that are the second-nearest code, and elements compared.

    Raises
    ------
    Wrong
        The first difference.
    """
    _against_reference(run, reference)
    missing = [name for name in nodes.codes if name not in reference]
    if missing:
        operators = sorted({nodes.codes[name].node.op_type for name in missing})
        raise Wrong(
            f"oracle does not know tensors made by {', '.join(operators)}", ", ".join(missing)
        )
    codes = {name: reference[name] for name in nodes.codes}
    _check_shapes(nodes, codes)
    extra = [name for name in nodes.floats if name in run.tensors]
    made = Operators(nodes, codes, extra).run(feeds, codes)
    deviations = _against_file(nodes, feeds, codes, made)
    for name in extra:
        stored = run.tensors[name]
        _same_reals(f"stored float tensor {name}", _reals(stored), made[name], run.layers.get(name))
    for value in nodes.model.graph.output:
        name = value.name
        want = codes[name] if name in codes else made[name] if name in made else feeds[name]
        _check_output(name, run.outputs[name], want, _origin(nodes, name))
    return deviations


def _against_reference(run: Run, reference: Arrays) -> None:
    for name, stored in run.tensors.items():
        if name not in reference:
            continue
        want = reference[name]
        layer = run.layers.get(name, "input")
        if want.dtype == np.float32:  # it is an output as well
            _same_reals(f"oracle's {name}", _reals(stored), want, layer)
            continue
        if want.shape != stored.codes.shape:
            raise Wrong(
                f"stored tensor of {layer}: shape", f"{name}: {stored.codes.shape}, {want.shape}"
            )
        wrong = np.argwhere(want != stored.codes)
        if wrong.size or want.dtype != stored.codes.dtype:
            at = tuple(int(i) for i in wrong[0]) if wrong.size else ()
            raise Wrong(
                f"program differs from oracle: {layer}",
                f"{name}: {len(wrong)} of {want.size}, first at {list(at)}: "
                f"{stored.codes[at]} for {want[at]}"
                if at
                else f"{name}: {stored.codes.dtype} for {want.dtype}",
            )


def _command(product: Product, run: Run, model: onnx.ModelProto) -> None:
    """The command agrees: with the oracle, and about the outputs that it writes."""
    message, outputs = product.command()
    if message:
        raise Wrong(f"sim run --check: {normal(message, model)}", message)
    for name, array in run.outputs.items():
        if name not in outputs or f"{name}:scale" not in outputs:
            raise Wrong("sim run --outputs: an output is missing", f"{name}: {sorted(outputs)}")
        _check_output(name, outputs[name], array, "--outputs")


def _against_rtl(run: Run, rtl: Run | str, model: onnx.ModelProto) -> None:
    """The circuit leaves what the functional simulator leaves."""
    if isinstance(rtl, str):
        raise Wrong(f"cannot run on RTL: {normal(rtl, model)}", rtl)
    for name, stored in run.tensors.items():
        wrong = int((stored.codes != rtl.tensors[name].codes).sum())
        if wrong:
            layer = run.layers.get(name, "input")
            raise Wrong(f"RTL differs: {layer}", f"{name}: {wrong} of {stored.codes.size}")


def _check_shapes(nodes: Nodes, codes: Mapping[str, Array]) -> None:
    for name, code in nodes.codes.items():
        if codes[name].dtype != code.dtype:
            raise Wrong("oracle: type of a tensor", f"{name}: {codes[name].dtype}, {code.dtype}")


def _against_file(
    nodes: Nodes, feeds: Arrays, codes: Mapping[str, Array], made: Mapping[str, Array]
) -> dict[str, tuple[int, int]]:
    """Compare the oracle, operator by operator, with what the file's nodes make of its codes."""
    found: dict[str, tuple[int, int]] = {}
    for name, code in nodes.codes.items():
        got, want = codes[name], made[name]
        form = operator(nodes, code)
        if got.shape != want.shape:
            raise Wrong(
                f"oracle differs from the file: shape of {form}",
                f"{name}: {got.shape}, {want.shape}",
            )
        steps = np.abs(got.astype(np.int32) - want.astype(np.int32))
        off = int(np.count_nonzero(steps))
        if off:
            bad = steps > 1
            if code.real:
                norm = _is_norm(nodes, code)
                slack = SLACK + (BIAS if _rounds_bias(nodes, code) else 0.0)
                slack += NORM if norm else 0.0
                bad |= beyond(code, got, made[code.real], slack) & (steps > 0)
                if norm and bad.any():  # it may be the file's float32 that is noise
                    bad &= beyond(code, got, in_double(nodes, code, {**feeds, **codes}), slack)
            elif off > MANY * got.size + 3:  # no real says which of them lie half-way
                bad |= steps > 0
            if bad.any():
                at = tuple(int(i) for i in np.argwhere(bad)[0])
                raise Wrong(
                    f"oracle differs from the file: {form}",
                    f"{name}: {int(bad.sum())} of {got.size}, first at {list(at)}: {got[at]}, "
                    f"the file's nodes make {want[at]}",
                )
        before = found.get(form, (0, 0))
        found[form] = before[0] + off, before[1] + got.size
    return found


def beyond(code: Code, codes: Array, real: Array, slack: float = SLACK) -> npt.NDArray[np.bool_]:
    """Codes that are not the nearest to a real, half-way cases aside."""
    limits = np.iinfo(code.dtype)
    exact = np.asarray(real, np.float64) / code.scale + code.zero
    exact = np.clip(np.nan_to_num(exact, nan=0.0), limits.min, limits.max)
    found = np.abs(codes.astype(np.float64) - exact) > 0.5 + slack
    return np.asarray(found & np.isfinite(real))


def operator(nodes: Nodes, code: Code) -> str:
    """What makes a tensor: operators between its quantizer and the tensors before it."""
    if code.node.op_type != "QuantizeLinear":
        return str(code.node.op_type)
    found = [node.op_type for node in between(nodes, code)]
    return " ".join(dict.fromkeys(found)) or "Requantize"


def _rounds_bias(nodes: Nodes, code: Code) -> bool:
    """Whether an offset is anything but int32 in units of the accumulator."""
    producers = {n: node for node in nodes.model.graph.node for n in node.output}
    for node in between(nodes, code):
        if node.op_type == "BatchNormalization":
            return True
        if node.op_type in ("Conv", "Gemm") and len(node.input) > 2:
            made = producers.get(node.input[2])
            codes = nodes.constants.get(made.input[0]) if made is not None and made.input else None
            if codes is None or codes.dtype != np.int32:
                return True
    return False


def _is_norm(nodes: Nodes, code: Code) -> bool:
    """Whether a norm makes a tensor, as one operator or written out."""
    found = {node.op_type for node in between(nodes, code)}
    return "LayerNormalization" in found or {"ReduceMean", "Sqrt"} <= found


def _origin(nodes: Nodes, name: str) -> str:
    producers = {n: node for node in nodes.model.graph.node for n in node.output}
    node = producers.get(name)
    return node.op_type if node is not None else "input"


def _reals(stored: Stored) -> npt.NDArray[np.float32]:
    centred = stored.codes.astype(np.float32) - np.float32(stored.zero)
    return np.asarray(centred * np.float32(stored.scale), np.float32)


def _same_reals(what: str, got: Array, want: Array, layer: str | None) -> None:
    if got.shape != want.shape:
        raise Wrong(f"float tensor of {layer}: shape", f"{what}: {got.shape}, {want.shape}")
    wrong = np.argwhere(got != want)
    if wrong.size:
        at = tuple(int(i) for i in wrong[0])
        raise Wrong(
            f"float tensor of {layer} differs from the file",
            f"{what}: {len(wrong)} of {got.size}, first at {list(at)}: {got[at]} for {want[at]}",
        )


def _check_output(name: str, got: Array, want: Array, origin: str) -> None:
    if got.shape != want.shape or got.dtype != want.dtype:
        raise Wrong(
            f"output made by {origin}: shape or type",
            f"{name}: {got.dtype} {list(got.shape)} for {want.dtype} {list(want.shape)}",
        )
    wrong = np.argwhere(got != want)
    if wrong.size:
        at = tuple(int(i) for i in wrong[0])
        raise Wrong(
            f"output made by {origin} differs from the file",
            f"{name}: {len(wrong)} of {got.size}, first at {list(at)}: {got[at]} for {want[at]}",
        )


def compare_outputs(model: onnx.ModelProto, run: Run, expected: Arrays) -> None:
    """Without an oracle: shapes, and values as far as differences of a step cannot explain them.

    Raises
    ------
    Wrong
        An output has another shape, or differs in most elements by much.
    """
    nodes = Nodes(model)
    for value in model.graph.output:
        got, want = run.outputs[value.name], expected[value.name]
        origin = _origin(nodes, value.name)
        if got.shape != want.shape or got.dtype != want.dtype:
            raise Wrong(
                f"output made by {origin}: shape or type",
                f"{value.name}: {got.dtype} {list(got.shape)} for {want.dtype} {list(want.shape)}",
            )
    for name, stored in run.tensors.items():
        if name not in nodes.codes or name not in expected:
            continue
        want = expected[name]
        layer = run.layers.get(name, "input")
        if want.shape != stored.codes.shape:
            raise Wrong(
                f"stored tensor of {layer}: shape", f"{name}: {stored.codes.shape}, {want.shape}"
            )
        steps = np.abs(stored.codes.astype(np.int32) - want.astype(np.int32))
        if (steps > 4).mean() > 0.1:
            raise Wrong(
                f"program differs from the file (no oracle): {layer}",
                f"{name}: {int((steps > 4).sum())} of {want.size} by more than 4 steps",
            )
