"""Rules of legality as data: conditions over an instruction's fields and the configuration.

A rule says which instructions the core refuses, with which error, and why. It is written once,
beside the fields (hw/arch/instructions), and has four readers: the simulators evaluate it on
integers (sim/functional/legality.py), the decoder makes a circuit of it (hw/common/rules.py), the
linker derives the feature mask of a program from it (`needs`), and docs/isa.md prints it.

Conditions are built by operators: comparisons of numbers (fields, parameters of the configuration,
integers; sums and products of them) joined by ``&``, ``|`` and ``~``. A rule mentions no field to
which a register is added: what such a field may be is known only at dispatch, so the units check
addresses as they use them.
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NoReturn, TypeAlias, assert_never, cast

from hw.arch.codes import FEATURES, ErrorCode
from hw.arch.encoding import Encodable

Predicate: TypeAlias = Callable[[Any], bool]
"""Takes an instruction."""


class _Number:
    """Operators of numbers. Comparisons give conditions, not truth values."""

    def __add__(self, other: Number | int) -> Arithmetic:
        return Arithmetic("+", number(self), number(other))

    def __mul__(self, other: Number | int) -> Arithmetic:
        return Arithmetic("*", number(self), number(other))

    def __and__(self, other: Number | int) -> Arithmetic:
        return Arithmetic("&", number(self), number(other))

    def __eq__(self, other: object) -> Comparison:  # type: ignore[override]
        return Comparison("==", number(self), number(other))

    def __ne__(self, other: object) -> Comparison:  # type: ignore[override]
        return Comparison("!=", number(self), number(other))

    def __lt__(self, other: Number | int) -> Comparison:
        return Comparison("<", number(self), number(other))

    def __le__(self, other: Number | int) -> Comparison:
        return Comparison("<=", number(self), number(other))

    def __gt__(self, other: Number | int) -> Comparison:
        return Comparison(">", number(self), number(other))

    def __ge__(self, other: Number | int) -> Comparison:
        return Comparison(">=", number(self), number(other))

    __hash__ = object.__hash__

    def __bool__(self) -> NoReturn:
        raise TypeError("a number of a rule has no truth value; compare it")


class _Condition:
    """Operators of conditions."""

    def __and__(self, other: Condition) -> Junction:
        return Junction("and", (_condition(self), _condition(other)))

    def __or__(self, other: Condition) -> Junction:
        return Junction("or", (_condition(self), _condition(other)))

    def __invert__(self) -> Negation:
        return Negation(_condition(self))

    def __bool__(self) -> NoReturn:
        raise TypeError("a condition of a rule has no truth value; join with &, | and ~")


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Literal(_Number):
    """An integer; a member of an enumeration keeps its name."""

    value: int


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Element(_Number):
    """A field, or one of its `length` elements."""

    name: str
    index: int | None = None
    length: int = 1


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Parameter(_Number):
    """A number of the configuration: a path of attributes, ``memory.tables``."""

    path: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Arithmetic(_Number):
    """Sum, product or bitwise and."""

    operation: str
    left: Number
    right: Number


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Truth(_Condition):
    """A condition that always or never holds."""

    value: bool


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Lacks(_Condition):
    """The circuit does not have an optional part."""

    feature: str


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Comparison(_Condition):
    """Two numbers compared."""

    operation: str
    left: Number
    right: Number


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Junction(_Condition):
    """Conditions joined by ``and`` or ``or``."""

    operation: str
    operands: tuple[Condition, ...]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Negation(_Condition):
    """The opposite of a condition."""

    operand: Condition


Number: TypeAlias = Literal | Element | Parameter | Arithmetic
Condition: TypeAlias = Truth | Lacks | Comparison | Junction | Negation

OPERATIONS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "*": operator.mul,
    "&": operator.and_,
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
"""What the operators mean, on integers and on Amaranth values alike."""


def number(value: object) -> Number:
    """An operand of an expression: a number, or an integer made one."""
    if isinstance(value, Literal | Element | Parameter | Arithmetic):
        return value
    if isinstance(value, int):
        return Literal(value)
    raise TypeError(f"{value!r} is no number of a rule")


def _condition(value: object) -> Condition:
    if isinstance(value, Truth | Lacks | Comparison | Junction | Negation):
        return value
    raise TypeError(f"{value!r} is no condition of a rule")


def parameter(path: str) -> Parameter:
    """A number of the configuration."""
    return Parameter(path)


def lacks(feature: str) -> Lacks:
    """Whether the circuit does not have an optional part.

    Raises
    ------
    ValueError
        If there is no such feature.
    """
    if feature not in FEATURES:
        raise ValueError(f"no feature {feature!r}; there are {', '.join(FEATURES)}")
    return Lacks(feature)


def parameter_of(config: object, path: str) -> int:
    """The number that a configuration has for a parameter."""
    found: Any = functools.reduce(getattr, path.split("."), config)
    return int(found)


def any_of(conditions: Iterable[Condition]) -> Condition:
    """Whether one of the conditions holds."""
    return Junction("or", tuple(conditions))


class Fields:
    """Fields of an instruction class as numbers: an attribute each, a tuple if it has elements."""

    def __init__(self, kind: type[Encodable]) -> None:
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        field = self._kind.field(name)
        if field.length == 1:
            return Element(name)
        return tuple(Element(name, i, field.length) for i in range(field.length))


def zero(*fields: Element | tuple[Element, ...]) -> Condition:
    """Whether an element of one of the fields is zero."""
    return any_of(element == 0 for element in _elements(fields))


def nonzero(*fields: Element | tuple[Element, ...]) -> Condition:
    """Whether an element of one of the fields is not zero."""
    return any_of(element != 0 for element in _elements(fields))


def _elements(fields: Iterable[Element | tuple[Element, ...]]) -> Iterator[Element]:
    for field in fields:
        yield from field if isinstance(field, tuple) else (field,)


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What makes an instruction illegal.

    Attributes
    ----------
    code: the error.
    condition: holds where the instruction is refused.
    text: what is demanded, for docs/isa.md and for messages.
    """

    code: ErrorCode
    condition: Condition
    text: str

    @property
    def nodes(self) -> tuple[Number | Condition, ...]:
        """The condition and all of its parts."""
        return tuple(walk(self.condition))

    @property
    def features(self) -> tuple[str, ...]:
        """Features without which the rule may refuse, in the order of `FEATURES`."""
        found = {node.feature for node in self.nodes if isinstance(node, Lacks)}
        return tuple(feature for feature in FEATURES if feature in found)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the fields that it looks at, in the order in which it names them."""
        found = (node.name for node in self.nodes if isinstance(node, Element))
        return tuple(dict.fromkeys(found))

    @property
    def parameters(self) -> tuple[str, ...]:
        """Parameters of the configuration that it compares with."""
        found = (node.path for node in self.nodes if isinstance(node, Parameter))
        return tuple(dict.fromkeys(found))


def walk(node: Number | Condition) -> Iterator[Number | Condition]:
    """A number or condition, and all of its parts."""
    yield node
    match node:
        case Arithmetic() | Comparison():
            yield from walk(node.left)
            yield from walk(node.right)
        case Junction():
            for operand in node.operands:
                yield from walk(operand)
        case Negation():
            yield from walk(node.operand)


# Evaluation: first on the configuration (`specialised`), then on an instruction (`predicate`).


def specialised(
    condition: Condition, features: Collection[str], config: object = None
) -> Condition:
    """The condition for one machine: parameters and features replaced by what they are.

    Parameters
    ----------
    condition: of a rule.
    features: that the circuit has.
    config: an AcceleratorConfig; may be missing where the condition names no parameter.
    """
    match condition:
        case Truth():
            return condition
        case Lacks(feature):
            return Truth(feature not in features)
        case Comparison(operation, left, right):
            left, right = _specialised_number(left, config), _specialised_number(right, config)
            if isinstance(left, Literal) and isinstance(right, Literal):
                return Truth(bool(OPERATIONS[operation](left.value, right.value)))
            return Comparison(operation, left, right)
        case Negation(operand):
            inner = specialised(operand, features, config)
            return Truth(not inner.value) if isinstance(inner, Truth) else Negation(inner)
        case Junction(operation, operands):
            decides = operation == "or"  # the value of one operand that settles it
            rest: list[Condition] = []
            for operand in operands:
                inner = specialised(operand, features, config)
                if not isinstance(inner, Truth):
                    rest.append(inner)
                elif inner.value == decides:
                    return inner
            if len(rest) == 1:
                return rest[0]
            return Junction(operation, tuple(rest)) if rest else Truth(not decides)
        case _:
            assert_never(condition)


def _specialised_number(value: Number, config: object) -> Number:
    match value:
        case Literal() | Element():
            return value
        case Parameter(path):
            return Literal(parameter_of(config, path))
        case Arithmetic(operation, left, right):
            left, right = _specialised_number(left, config), _specialised_number(right, config)
            if isinstance(left, Literal) and isinstance(right, Literal):
                return Literal(OPERATIONS[operation](left.value, right.value))
            return Arithmetic(operation, left, right)
        case _:
            assert_never(value)


def predicate(condition: Condition) -> Predicate:
    """A function that tells whether a condition without parameters holds for an instruction.

    It is compiled once and asked for every instruction of a program: a Python expression made of
    the nodes' names and numbers.
    """
    return cast(Predicate, eval(f"lambda instruction: bool({_source(condition)})", {}))


def _source(node: Number | Condition) -> str:
    match node:
        case Literal(value):
            return str(int(value))
        case Truth(value):
            return str(value)
        case Element(name, index):
            return f"instruction.{name}" if index is None else f"instruction.{name}[{index}]"
        case Arithmetic(operation, left, right) | Comparison(operation, left, right):
            return f"({_source(left)} {operation} {_source(right)})"
        case Junction(operation, operands):
            return "(" + f" {operation} ".join(map(_source, operands)) + ")"
        case Negation(operand):
            return f"(not {_source(operand)})"
        case Lacks(feature):
            raise TypeError(f"the feature {feature!r} is not decided; specialise the condition")
        case Parameter(path):
            raise TypeError(f"the parameter {path} is not decided; specialise the condition")
        case _:
            assert_never(node)


def needs(rules: Iterable[Rule]) -> tuple[tuple[str, Predicate], ...]:
    """Features that instructions of a class may need, each with who needs it.

    An instruction needs a feature if it is refused wherever only that one is missing.
    """
    found = []
    for rule in rules:
        for feature in rule.features if rule.code is ErrorCode.UNSUPPORTED else ():
            others = tuple(name for name in FEATURES if name != feature)
            found.append((feature, predicate(specialised(rule.condition, others))))
    return tuple(found)
