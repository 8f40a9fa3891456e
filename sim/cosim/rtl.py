"""Verilog of the core, generated in process and kept by content.

Elaborating `base` takes much longer than looking at the sources, so the Verilog is kept under a
key made of the configuration and of every file in hw/ that can change it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from hw.arch.config import AcceleratorConfig
from sim.cosim import store

ROOT = Path(__file__).resolve().parents[2]
TOP = "top"
KEPT = 24
"""Verilog files kept under the cache."""


def source_key(config: AcceleratorConfig) -> str:
    """Hash of everything that the generated Verilog depends on."""
    from hw.common.verilog import versions

    digest = hashlib.sha256()
    content = asdict(config)
    del content["name"]
    digest.update(json.dumps(content, sort_keys=True).encode())
    digest.update(versions().encode())
    for path in sorted((ROOT / "hw").rglob("*.py")):
        if path.relative_to(ROOT / "hw").parts[0] not in ("boards", "export"):
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:24]


def verilog_file(config: AcceleratorConfig, starts: Callable[[], None] = lambda: None) -> Path:
    """Path of the core's Verilog for a configuration, generated if it is not there yet.

    Parameters
    ----------
    starts: called before it is generated.
    """

    def make(partial: Path) -> None:
        starts()
        from hw.accelerator import verilog

        partial.write_text(verilog(config, name=TOP))

    return store.entry("verilog", f"{config.name}-{source_key(config)}.v", make, kept=KEPT)
