"""The report as plain data: what report.json holds and what --json prints."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from reports import hfa
from reports.advice import advice
from reports.report import LayerRow, Report

VERSION = 2


def headline(report: Report) -> dict[str, Any]:
    """Figures of the whole run; keys shared with ``sim run --json`` mean the same."""
    return {
        "network": report.network,
        "config": report.config,
        "backend": report.backend,
        "fingerprint": report.fingerprint,
        "checked": report.checked,
        "equal": report.equal,
        "tensors_compared": report.tensors_compared,
        "first_difference": report.first_difference or None,
        "halt_code": report.halt_code,
        "cycles": report.cycles,
        "macs": report.macs,
        "multipliers": report.multipliers,
        "mac_per_multiplier_cycle": report.rate,
        "utilization": report.utilization,
        "roofline_cycles": report.roofline_cycles,
        "roofline_share": report.roofline_share,
        "dram_bytes": report.dram_bytes,
        "fetch_bytes": report.fetch_bytes,
        "energy_table": report.energy_table.name,
        "energy_j": report.energy_j,
        "clock_hz": report.clock_hz,
        "runs_per_second": 1 / report.seconds,
        "frames_per_second": report.pictures / report.seconds if report.pictures else None,
        "wall_s": report.wall_s,
        "sim_khz": report.sim_khz,
    }


def layer_summary(layer: LayerRow, multipliers: int) -> dict[str, Any]:
    """Figures of a layer; keys shared with run.json mean the same."""
    intensity = layer.intensity if math.isfinite(layer.intensity) else None
    return {
        "name": layer.name,
        "label": layer.label,
        "op": layer.op,
        "first_cycle": layer.first_cycle,
        "last_cycle": layer.last_cycle,
        "cycles": layer.cycles,
        "macs": layer.macs,
        "utilization": layer.utilization,
        "lanes_filled": layer.filled,
        "held_up_by": layer.bound,
        "busy": dict(layer.busy),
        "members": list(layer.members),
        "mac_per_multiplier_cycle": layer.rate(multipliers),
        "roofline_cycles": layer.roofline_cycles,
        "roofline_share": layer.roofline_share,
        "read_bytes": layer.read_bytes,
        "write_bytes": layer.write_bytes,
        "mac_per_byte": intensity,
        "energy_j": layer.energy_j,
        "energy": dict(layer.energy),
        "tiling": dict(layer.tiling),
        "hfa": hfa.layer_summary(layer.choice),
    }


def summary(report: Report, direct: Report | None = None) -> dict[str, Any]:
    """Everything but the single instructions, which stand in trace.json.

    `direct` is a run of the same network without transformed layers.
    """
    return {
        "version": VERSION,
        **headline(report),
        "port_bytes": report.port_bytes,
        "energy": dict(report.energy),
        "hfa": hfa.summary(report, direct),
        "advice": [dataclasses.asdict(each) for each in advice(report)],
        "layers": [layer_summary(layer, report.multipliers) for layer in report.layers],
        "units": {
            unit.name: {
                "working": unit.working,
                "waiting_on_memory": unit.memory,
                "waiting_on_token": unit.token,
                "idle": unit.idle,
                "instructions": unit.instructions,
            }
            for unit in report.units
        },
        "counters": dict(report.counters),
        "actions": dict(report.actions),
    }
