"""YAML files as people write them: one mapping, no key twice."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml

from hw.arch.parts import ConfigError


class _Loader(yaml.SafeLoader):
    """Plain data only; a key that stands there twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As the base class does, which lets the last of equal keys win."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r} stands there twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a file.

    Raises
    ------
    ConfigError
        If the file does not read, is not YAML, or is no mapping.
    """
    try:
        # No constructor runs but those of plain data.
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"it does not read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"it is not YAML: {_in_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError("it must hold a mapping")
    return content


def locate(path: Path, message: str) -> int | None:
    """Line of the field that a message names first; None where it names none that the file has.

    Parameters
    ----------
    path: a file that `read_mapping` reads.
    message: names fields as ``part.name``, or says what the part ``has no``.
    """
    lines = dict(_lines(yaml.compose(path.read_text(encoding="utf-8"), _Loader), ""))
    if message.startswith("unknown feature"):
        return lines.get("features")
    unknown = re.match(r"(?:the file|([a-z_]+)) has no '(\w+)'", message)
    if unknown:
        part, name = unknown.groups()
        return lines.get(f"{part}.{name}" if part else name)
    return next(
        (lines[w] for w in re.findall(r"[a-z_]+(?:\.[a-z_]+)*", message) if w in lines), None
    )


def _lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Dotted names of the fields of a mapping, and their lines."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        name = f"{prefix}{key.value}"
        yield name, key.start_mark.line + 1
        yield from _lines(value, f"{name}.")


def _in_one_line(error: Exception) -> str:
    """What is wrong and where, without the snippet."""
    mark = getattr(error, "problem_mark", None)
    if isinstance(error, yaml.MarkedYAMLError) and mark is not None:
        return f"{error.problem} in line {mark.line + 1}, column {mark.column + 1}"
    return " ".join(str(error).split()) or type(error).__name__
