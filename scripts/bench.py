"""Measure what README and docs claim of simulation, and print it beside its target.

Every figure comes from a public command run with --json in a process of its own. Nothing here is
a test: a missed target is printed as missed. Results also go to build/bench/bench.json.

Usage: bench.py [--quick] [PART ...]     (--quick leaves out the longest runs)

Without parts all of them run, one after the other; each stands for itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

BUILD = Path("build/bench")
TARGETS = {
    ("fsb_c3d", "auto"): 18.0e6,
    ("fsb_c3d", "off"): 1.15 * 23.9e6,
    ("c3d", "auto"): 36e6,
    ("c3d", "off"): 1.15 * 154e6,
}
"""Most cycles on `base`, with and without fast algorithms, from the requirements."""
TRAFFIC_MB = {"fsb_c3d": 45.0}
LANES = 16
TIMELINE = ("unit", "pc", "issue", "start", "end")
LAYERS = (
    ("1x1", "64", "64", "56x56", "off", 60_710, 0.92),
    ("3x3", "64", "64", "56x56", "off", 476_435, 0.92),
    ("3x3", "64", "64", "56x56", "auto", 133_000, 3.4),
    ("3x3", "512", "512", "7x7", "auto", None, 2.5),
    ("3x1x1", "64", "64", "16x56x56", "off", None, 0.92),
    ("3x1x1", "64", "64", "16x56x56", "auto", None, 1.85),
)
"""Kernel, channels, map, --hfa, most cycles, least MAC per multiplier and cycle. The cycles of the
first two are those published for a 16×16 Gemmini."""

STEMS = (
    ("7x7", "64", "224x224", "2x2", 0.8),
    ("1x7x7", "64", "16x112x112", "1x2x2", 0.8),
    ("7x7x7", "64", "16x112x112", "1x2x2", 0.75),
    ("5x7x7", "8", "8x224x224", "1x2x2", None),
)
"""Kernel, channels, map, stride, least MAC per multiplier and cycle of convolutions of 3 channels:
ResNets, XwiseNet, 3D-ResNets, and SlowFast, the fast path of which has half as many as columns."""


NETWORKS = (
    ("classifier", "backbone=mobilenetv2", 1.51e6),
    ("classifier", "backbone=resnet34", 5.25e6),
    ("classifier", "backbone=resnet50", 12.15e6),
    ("classifier", "backbone=resnet101", 21.7e6),
    ("vtn_mobilenetv2", "part=encoder", None),
    ("vtn_resnet34", "part=encoder", 5.25e6),
    ("vtn_resnet50", "part=encoder", 12.15e6),
    ("vtn_decoder", "", 0.505e6),
    ("liteeval_coarse", "", None),
    ("liteeval_fine", "", 21.7e6),
    ("xwisenet", "", 6.4e6),
    ("fasttrg", "", 39.6e6),
    ("r3d18_x", "", None),
    ("fsb_c3d", "", 17.0e6),
    ("c3d", "", 28.5e6),
    ("eacnet_r50", "", 388e6),
)
"""Name, --variant and most cycles at paper size on `base`; the last one takes longest."""


CONTEXT = {"ss": 0.03, "none": None}
"""Context blocks of XwiseNet that are measured, and the most that they may add to the cycles."""
CONTEXT_PARTS = ("attention_pool", "conv", "norm", "add")
"""Operators of a context block that are layers of their own in reports."""


@dataclasses.dataclass
class Row:
    """One line of the table; `met` is None where there is nothing to reach."""

    what: str
    measured: str
    target: str = ""
    met: bool | None = None


def command(*words: str, ok: tuple[int, ...] = (0,)) -> tuple[dict[str, Any], float, float]:
    """Run `python -m words --json`; return its object, wall seconds and peak MiB."""
    print("  $ python -m", *words, file=sys.stderr, flush=True)
    start = os.times().elapsed
    process = subprocess.Popen(
        [sys.executable, "-m", *words, "--json"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ok:
        raise SystemExit(f"failed with {process.returncode}: python -m {' '.join(words)}")
    return json.loads(text), os.times().elapsed - start, usage.ru_maxrss / 1024


def network(
    name: str,
    backends: list[str],
    rows: list[Row],
    *,
    fuse: str = "on",
    hfa: str = "auto",
    config: str = "base",
) -> dict[str, Any]:
    """Build a network, run it on the backends with --check, add rows; return the results."""
    build = f"{BUILD}/{name}_{config}_fuse_{fuse}_hfa_{hfa}"
    label = f"{name} on {config}, --fuse {fuse} --hfa {hfa}"
    onnx = f"{BUILD}/{name}.onnx"
    built, wall, peak = command(
        *("compiler", "build", onnx, "--config", config, "-o", build),
        *("--fuse", fuse, "--hfa", hfa),
    )
    rows.append(Row(f"{label}: build", f"{wall:.0f} s, {peak:.0f} MiB", "60 s", wall <= 60))
    rows.append(Row(f"{label}: instructions", f"{built['instructions']:,}"))
    results = {}
    limits = {"functional": 120, "rtl": 600, "cycle": None}
    for backend in backends:
        check = [] if backend == "cycle" else ["--check"]
        out = f"{build}/run-{backend}.json"
        run, wall, peak = command(
            "sim", "run", build, "--on", backend, *check, "-o", out, ok=(0, 1)
        )
        results[backend] = json.loads(Path(out).read_text())
        if check:
            verdict = f"{run['tensors_compared']} tensors " + (
                "equal" if run["equal"] else f"DIFFER: {run['first_difference']}"
            )
            rows.append(
                Row(f"{label}: {backend} = PyTorch reference", verdict, "equal", run["equal"])
            )
        limit = limits[backend]
        rows.append(
            Row(
                f"{label}: {backend} run",
                f"{run['wall_s']:.0f} s ({wall:.0f} s in all), {peak:.0f} MiB",
                f"{limit} s, 4096 MiB" if limit else "",
                run["wall_s"] <= limit and peak <= 4096 if limit else None,
            )
        )
        if backend == "rtl":
            speed = run["sim_khz"]
            least = 100 if config == "base" else 200
            rows.append(
                Row(f"{label}: RTL speed", f"{speed:.0f} kHz", f"{least} kHz", speed >= least)
            )
        if run.get("cycles") and fuse == "on":
            most = TARGETS[name, hfa]
            rows.append(
                Row(
                    f"{label}: cycles ({backend})",
                    f"{run['cycles']:,}, {run['mac_per_multiplier_cycle']:.2f} MAC/mult/cycle",
                    f"{most / 1e6:.1f} M",
                    run["cycles"] <= most,
                )
            )
            energy = f"{1e3 * run['energy_j']:.1f} mJ"
            rows.append(Row(f"{label}: energy ({backend})", energy))
            traffic, most_mb = run["dram_bytes"] / 1e6, TRAFFIC_MB.get(name)
            rows.append(
                Row(
                    f"{label}: DRAM traffic ({backend})",
                    f"{traffic:.1f} MB",
                    f"{most_mb} MB" if most_mb else "",
                    traffic <= most_mb if most_mb else None,
                )
            )
    return results


def cycle_error(cycle: dict[str, Any], rtl: dict[str, Any], rows: list[Row]) -> None:
    """Cycle model against RTL: per layer, and every instruction."""
    worst = max(
        abs(a["cycles"] - b["cycles"]) / b["cycles"]
        for a, b in zip(cycle["layers"], rtl["layers"], strict=True)
        if b["cycles"]
    )
    rows.append(Row("cycle model, worst layer error", f"{worst:.4%}", "1 %", worst <= 0.01))
    worst = max(
        abs(layer["tiling"]["foreseen"] - layer["cycles"]) / layer["cycles"]
        for layer in rtl["layers"]
        if layer["cycles"]
    )
    rows.append(Row("foreseen by the compiler, worst layer", f"{worst:.4%}", "2 %", worst <= 0.02))
    columns = [
        list(zip(*(run["instructions"][name] for name in TIMELINE), strict=True))
        for run in (cycle, rtl)
    ]
    wrong = sum(a != b for a, b in zip(*columns, strict=True))
    what = "cycle model, instructions with another issue, start or end"
    rows.append(Row(what, f"{wrong} of {len(columns[1])}", "0", not wrong))
    differ = [k for k, v in rtl["counters"].items() if cycle["counters"][k] != v]
    what = "cycle model, performance counters that differ"
    rows.append(Row(what, f"{len(differ)} of {len(rtl['counters'])}", "0", not differ))


def depthwise_rates(run: dict[str, Any], rows: list[Row]) -> None:
    """Output rows of depthwise layers per cycle: streaming (borders included) and multiplying.

    The circuit's counter `array_vectors` counts the cycles in which the array multiplies; what the
    other layers stream is known, the rest is depthwise.
    """
    produced = streamed = others = 0
    for layer in run["layers"]:
        if layer["op"] == "conv_depthwise":
            rows_out = layer["macs"] // (9 * LANES)
            rate = rows_out / layer["array_vectors"]
            rows.append(Row(f"  {layer['name']}, output rows per streamed cycle", f"{rate:.3f}"))
            produced += rows_out
            streamed += layer["array_vectors"]
        else:
            others += layer["array_vectors"]
    busy = run["counters"]["array_vectors"] - others
    what = "depthwise, output rows per array-busy cycle (RTL counter)"
    rows.append(Row(what, f"{produced / busy:.3f}", "1", produced >= busy))


def single_layers(rows: list[Row], quick: bool) -> None:
    """Single convolutions on RTL, direct and transformed; by the cycle model where it is quick."""
    for kernel, cin, cout, size, hfa, most, least in LAYERS:
        build = f"{BUILD}/conv{kernel}_{cin}_{size}_{hfa}"
        words = [f"{build}.onnx", cin, cout, kernel, size]
        subprocess.run([sys.executable, "-m", "scripts.single_layer", *words], check=True)
        command(
            *("compiler", "build", f"{build}.onnx", "--config", "base", "-o", build, "--hfa", hfa)
        )
        backend = ["cycle"] if quick else ["rtl", "--check"]
        run, _, _ = command("sim", "run", build, "--on", *backend, ok=(0, 1))
        rate = run["mac_per_multiplier_cycle"]
        equal = quick or run["equal"]
        word = "cycle model" if quick else "equal" if equal else "DIFFERS"
        rows.append(
            Row(
                f"conv {kernel} {cin}->{cout} at {size}, --hfa {hfa}",
                f"{run['cycles']:,} cycles, {rate:.3f} MAC/mult/cycle, {word}",
                f"{least}" + (f", {most:,}" if most else ""),
                equal and rate >= least and (most is None or run["cycles"] < most),
            )
        )


def stems(rows: list[Row], quick: bool) -> None:
    """First layers of the video networks, by the cycle model."""
    for kernel, cout, size, stride, least in STEMS:
        build = f"{BUILD}/stem{kernel}_{cout}_{size}"
        words = [f"{build}.onnx", "3", cout, kernel, size, stride]
        subprocess.run([sys.executable, "-m", "scripts.single_layer", *words], check=True)
        command("compiler", "build", f"{build}.onnx", "--config", "base", "-o", build)
        run, _, _ = command("sim", "run", build, "--on", "cycle")
        rate = run["mac_per_multiplier_cycle"]
        rows.append(
            Row(
                f"stem {kernel} 3->{cout} at {size}, stride {stride}",
                f"{run['cycles']:,} cycles, {rate:.3f} MAC/mult/cycle",
                "" if least is None else f"{least}",
                None if least is None else rate >= least,
            )
        )


def onnxruntime(rows: list[Row]) -> None:
    """Operators fed with ONNX Runtime's own inputs."""
    fsb_c3d()
    report, _, _ = command("models", "ortcheck", f"{BUILD}/fsb_c3d.onnx", ok=(0, 1))
    exact = {"Conv", "Gemm", "MaxPool", "Add", "Relu", "Concat", "Slice", "Reshape"}
    for entry in report["operators"]:
        rate = entry["mismatches"] / max(entry["elements"], 1)
        must = entry["op"] in exact
        rows.append(
            Row(
                f"ONNX Runtime, {entry['op']}",
                f"{entry['mismatches']:,} of {entry['elements']:,} differ ({rate:.1e}), "
                f"max {entry['max_difference']}",
                "0" if must else "",
                entry["mismatches"] == 0 if must else None,
            )
        )


@functools.cache
def fsb_c3d() -> None:
    """Export the network that most parts are about, once."""
    command("models", "export", "fsb_c3d", "-o", f"{BUILD}/fsb_c3d.onnx")


def fused(rows: list[Row], quick: bool) -> None:
    """FSB-C3D as it is built by default, on all three backends."""
    fsb_c3d()
    runs = network("fsb_c3d", ["functional", "cycle", "rtl"], rows)
    cycle_error(runs["cycle"], runs["rtl"], rows)


def hfa_off(rows: list[Row], quick: bool) -> None:
    """FSB-C3D without fast algorithms."""
    fsb_c3d()
    network("fsb_c3d", ["functional", "cycle" if quick else "rtl"], rows, hfa="off")


def fuse_off(rows: list[Row], quick: bool) -> None:
    """FSB-C3D operator by operator."""
    fsb_c3d()
    backend = "cycle" if quick else "rtl"
    plain = network("fsb_c3d", ["functional", backend], rows, fuse="off")
    depthwise_rates(plain[backend], rows)


def direct(rows: list[Row], quick: bool) -> None:
    """FSB-C3D on a circuit without fast algorithms."""
    if not quick:
        fsb_c3d()
        network("fsb_c3d", ["rtl"], rows, hfa="off", config="base_direct")


def c3d(rows: list[Row], quick: bool) -> None:
    """C3D with its linear layers."""
    if not quick:
        command("models", "export", "c3d_fc", "-o", f"{BUILD}/c3d.onnx")
        network("c3d", ["functional", "cycle"], rows)
        network("c3d", ["cycle"], rows, hfa="off")


def networks(rows: list[Row], quick: bool) -> None:
    """Networks of five families at paper size: proven, and their cycles by the cycle model."""
    for name, variant, most in NETWORKS[: -1 if quick else None]:
        build = f"{BUILD}/networks/{name}"
        wanted = ["--variant", variant] if variant else []
        command("models", "export", name, *wanted, "-o", f"{build}.onnx")
        built, wall, peak = command("compiler", "build", f"{build}.onnx", "-o", build)
        label, proof = f"{name} {variant}".strip(), built["proof"]
        cycles = proof["cycles"]
        rate = built["macs"] / cycles / LANES**2
        error = abs(built["cycles_estimated"] - cycles) / cycles
        rows += [
            Row(f"{label}: foreseen", f"{built['cycles_estimated']:,}", "2 %", error <= 0.02),
            Row(
                f"{label}: proven",
                f"{proof['tensors']} tensors equal; {wall:.0f} s, {peak:.0f} MiB",
            ),
            Row(
                f"{label}: cycles (cycle model)",
                f"{cycles:,}, {rate:.2f} MAC/mult/cycle, {built['dram_bytes'] / 1e6:.1f} MB DRAM",
                f"{most / 1e6:g} M" if most else "",
                cycles <= most if most else None,
            ),
        ]


def context(rows: list[Row], quick: bool) -> None:
    """What XwiseNet's context blocks take: as layers of their own, and against the net without."""
    cycles = {}
    for kind in CONTEXT:
        build = f"{BUILD}/networks/xwisenet_{kind}"
        command(
            "models", "export", "xwisenet", "--variant", f"context={kind}", "-o", build + ".onnx"
        )
        command("compiler", "build", build + ".onnx", "-o", build, "--no-verify")
        run, _, _ = command("sim", "run", build, "--on", "cycle")
        cycles[kind] = run["cycles"]
        rows.append(Row(f"XwiseNet, context={kind}: cycles (cycle model)", f"{run['cycles']:,}"))
        if kind == "none":
            continue
        layers = json.loads(Path(run["files"][0]).read_text())["layers"]
        blocks = [layer for layer in layers if "/context/" in layer["name"]]
        alone = [layer for layer in blocks if layer["op"] in CONTEXT_PARTS]
        for op in CONTEXT_PARTS:
            some = sum(layer["cycles"] for layer in alone if layer["op"] == op)
            rows.append(Row(f"  {op} of context blocks", f"{some:,}, {some / run['cycles']:.2%}"))
        share = sum(layer["cycles"] for layer in alone) / run["cycles"]
        most = CONTEXT[kind]
        assert most is not None
        what = "  layers that are context blocks' alone"
        rows.append(Row(what, f"{share:.2%}", f"{most:.0%}", share <= most))
        shared = sum(layer["cycles"] for layer in blocks if layer not in alone)
        what = "  sums with the convolution that follows them"
        rows.append(Row(what, f"{shared:,}, {shared / run['cycles']:.2%}"))
        trailed = sum(each["cycles"] for each in layers if each["op"].endswith("+ attention_pool"))
        what = "  convolutions with the pool that trails them"
        rows.append(Row(what, f"{trailed:,}, {trailed / run['cycles']:.2%}"))
    more, most = cycles["ss"] - cycles["none"], CONTEXT["ss"]
    assert most is not None
    share = more / cycles["ss"]
    what = "  cycles beyond those of the network without"
    rows.append(Row(what, f"{more:,}, {share:.2%}", f"{most:.0%}", share <= most))


PARTS: dict[str, Callable[[list[Row], bool], None]] = {
    "fused": fused,
    "hfa_off": hfa_off,
    "fuse_off": fuse_off,
    "direct": direct,
    "layers": single_layers,
    "stems": stems,
    "c3d": c3d,
    "networks": networks,
    "context": context,
    "onnxruntime": lambda rows, quick: onnxruntime(rows),
}


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="leave out the longest runs")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    args = parser.parse_args()
    unknown = sorted(set(args.parts) - set(PARTS))
    if unknown:
        parser.error(f"no part {unknown[0]}; there are {', '.join(PARTS)}")
    (BUILD / "networks").mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    for name in args.parts or PARTS:
        PARTS[name](rows, args.quick)
    width = max((len(row.what) for row in rows), default=0)
    for row in rows:
        verdict = {True: "met", False: "MISSED", None: ""}[row.met]
        print(f"{row.what:<{width}}  {row.measured:<52}  {row.target:<18} {verdict}")
    (BUILD / "bench.json").write_text(json.dumps([dataclasses.asdict(r) for r in rows], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
