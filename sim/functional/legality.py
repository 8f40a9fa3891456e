"""What the sequencer refuses to dispatch: the rules of hw/arch/isa.py on integers."""

from __future__ import annotations

import dataclasses

from hw.arch.codes import FEATURE_BITS, FEATURES
from hw.arch.config import AcceleratorConfig
from hw.arch.encoding import Encodable
from hw.arch.isa import RULES, ErrorCode, Instruction
from hw.arch.rules import Predicate, Rule, Truth, parameter_of, predicate, specialised
from sim.functional.errors import UnitError

GRAVITY = (ErrorCode.FINGERPRINT, ErrorCode.UNSUPPORTED, ErrorCode.FIELD, ErrorCode.ADDRESS)
"""Codes of rules, gravest first."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Check:
    """A rule that can refuse something on this machine."""

    rule: Rule
    holds: Predicate


class Legality:
    """The rules of one machine.

    Parameters
    ----------
    config: of the accelerator.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._checks: dict[tuple[type[Instruction], ErrorCode], tuple[_Check, ...]] = {}

    def check(self, instruction: Instruction, *codes: ErrorCode) -> None:
        """Refuse an instruction that breaks a rule.

        Parameters
        ----------
        instruction: as it stands in the program, before registers are added.
        codes: errors to look for, gravest first.

        Raises
        ------
        UnitError
            With the code of the first broken rule; names what is demanded and what was found.
        """
        kind = type(instruction)
        for code in codes:
            if (kind, code) not in self._checks:
                self._checks[kind, code] = _checks(kind, code, self._config)
            for check in self._checks[kind, code]:
                if check.holds(instruction):
                    raise UnitError(code, self._message(instruction, check.rule))

    def _message(self, instruction: Instruction, rule: Rule) -> str:
        found = [f"{name} = {_text(name, getattr(instruction, name))}" for name in rule.fields]
        config = self._config
        known = [f"{path} = {_text(path, parameter_of(config, path))}" for path in rule.parameters]
        if rule.code is ErrorCode.UNSUPPORTED:
            known.append(f"features {', '.join(config.features) or 'none'}")
        if known:
            found.append(f"configuration {config.name!r} has {', '.join(known)}")
        return f"{instruction.OPCODE.name}: {rule.text}; {', '.join(found)}"


def _text(name: str, value: object) -> str:
    """A value for a message; feature masks by names."""
    if not isinstance(value, int):
        return str(value)
    if name == "fingerprint":
        return f"{value:016x}"
    if name not in ("features", "missing_features"):
        return str(value)
    bits = [i for i in range(FEATURE_BITS) if value >> i & 1]
    return " + ".join(FEATURES[i] if i < len(FEATURES) else f"bit {i}" for i in bits) or "none"


def _checks(
    kind: type[Encodable], code: ErrorCode, config: AcceleratorConfig
) -> tuple[_Check, ...]:
    """The rules of a class that can refuse something, compiled when they are first needed."""
    found = []
    for rule in RULES[kind]:
        condition = specialised(rule.condition, config.features, config)
        if rule.code is code and not (isinstance(condition, Truth) and not condition.value):
            found.append(_Check(rule, predicate(condition)))
    return tuple(found)
