"""Command line of the hardware: `python -m hw config|verilog|header|synth|fit|bitstream`."""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.arch.boards import BOARDS
from hw.arch.config import AcceleratorConfig, ConfigError
from hw.arch.config_sizes import fits, sizes
from hw.arch.register_map import c_header
from hw.boards.nextpnr import NEXTPNR
from hw.synthesis import FULL, SynthesisError, report, summary
from shell import leave


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hw", description="The accelerator's circuit.")
    commands = parser.add_subparsers(dest="command", required=True)
    verilog = commands.add_parser(
        "verilog", help="write the Verilog of a configuration, a file for each module"
    )
    verilog.add_argument(
        "--config", default="base", help="preset (tiny, base, ...) or a YAML file; default: base"
    )
    verilog.add_argument(
        "-o", "--output", type=Path, help="folder to write to; default: build/verilog/<config>"
    )
    verilog.add_argument(
        "--top", default="accelerator", help="name of the top module; default: accelerator"
    )
    shown = commands.add_parser(
        "config", help="print derived sizes of a configuration, and what fits where"
    )
    shown.add_argument("file", help="preset (tiny, base, ...) or a YAML file")
    shown.add_argument("--json", action="store_true", help="one object on standard output")
    synth = commands.add_parser(
        "synth", help="map to an ECP5-85F with Yosys, route with nextpnr; print cells and fmax"
    )
    synth.add_argument(
        "--config", default="ecp5_85k", help="preset or a YAML file; default: ecp5_85k"
    )
    synth.add_argument("--pnr", action="store_true", help="place and route too (many minutes)")
    synth.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="placement seeds; default: 1 2 3"
    )
    synth.add_argument("--frequency", type=float, default=85.0, help="target in MHz; default: 85")
    synth.add_argument(
        "--nextpnr",
        default=NEXTPNR,
        metavar="PROGRAM",
        help="another nextpnr-ecp5 than the packaged one, by name or path",
    )
    synth.add_argument("-o", "--output", type=Path, help="folder; default: build/synth/<config>")
    synth.add_argument("--json", action="store_true", help="one object on standard output")
    _fit_arguments(commands)
    header = commands.add_parser("header", help="write the register map as a header for C")
    header.add_argument("-o", "--output", type=Path, help="file; default: build/accelerator.h")
    _bitstream_arguments(commands)
    return parser


def _fit_arguments(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    fitting = commands.add_parser(
        "fit", help="propose the largest configuration that a board holds, without synthesis"
    )
    fitting.add_argument("--board", default="ulx3s_85f", choices=sorted(BOARDS), help="the board")
    fitting.add_argument(
        "--config",
        default="ecp5_85k",
        help="features and operand widths are this preset's or YAML file's",
    )
    fitting.add_argument(
        "--share",
        type=float,
        default=FULL,
        help=f"of each resource that it may take; default: {FULL}",
    )
    fitting.add_argument("-o", "--output", type=Path, help="write the configuration's YAML there")
    fitting.add_argument("--json", action="store_true", help="one object on standard output")


def _bitstream_arguments(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    bits = commands.add_parser(
        "bitstream", help="make a board's bitstream: core, SDRAM, host link (an hour and more)"
    )
    bits.add_argument("--board", default="ulx3s_85f", choices=sorted(BOARDS), help="the board")
    bits.add_argument(
        "--config", default="ecp5_85k", help="preset or a YAML file; default: ecp5_85k"
    )
    bits.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="placement seeds; default: 1 2 3"
    )
    bits.add_argument(
        "--every-seed", action="store_true", help="route them all: fmax of each, and their median"
    )
    bits.add_argument(
        "--frequency", type=float, help="of core and bus in MHz; default: the board's"
    )
    bits.add_argument(
        "--nextpnr", default=NEXTPNR, metavar="PROGRAM", help="another nextpnr-ecp5, as for synth"
    )
    bits.add_argument("-o", "--output", type=Path, help="folder; default: build/bitstreams/<board>")
    bits.add_argument("--json", action="store_true", help="one object on standard output")


def _header(options: argparse.Namespace) -> None:
    path: Path = options.output or Path("build/accelerator.h")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(c_header())
    print(path)


def _bitstream(options: argparse.Namespace) -> None:
    from hw.boards.bitstream import make_bitstream  # LiteX is not needed for --help

    result = make_bitstream(
        AcceleratorConfig.load(options.config),
        BOARDS[options.board],
        options.output or Path("build/bitstreams") / options.board,
        seeds=options.seeds,
        every=options.every_seed,
        frequency=options.frequency,
        nextpnr=options.nextpnr,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(result.as_dict()) if options.json else result.summary())


def _fit(options: argparse.Namespace) -> None:
    from hw.boards.fit import propose, text  # SciPy is not needed for --help

    if not 0 < options.share <= 1:
        raise ValueError(f"--share is {options.share}; it must lie in 0..1")
    result = propose(BOARDS[options.board], AcceleratorConfig.load(options.config), options.share)
    if options.output:
        options.output.write_text(text(result.config))
    if options.json:
        print(json.dumps(result.as_dict()))
        return
    print(result.summary())
    print(f"\n{options.output}" if options.output else f"\n{text(result.config)}", end="")


def _synth(options: argparse.Namespace) -> None:
    config = AcceleratorConfig.load(options.config)
    directory: Path = options.output or Path("build/synth") / config.name
    seeds = options.seeds if options.pnr else []
    result = report(
        config,
        directory,
        seeds=seeds,
        frequency=options.frequency,
        nextpnr=options.nextpnr,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(json.dumps(result.as_dict()) if options.json else summary(result))


def _config(options: argparse.Namespace) -> None:
    config = AcceleratorConfig.load(options.file)
    derived, room = sizes(config), fits(config)
    if options.json:
        content = {"config": dataclasses.asdict(config), "sizes": dict(derived), "fits": dict(room)}
        print(json.dumps(content))
        return
    width = max(len(name) for name, _ in derived + room)
    print(f"{config.name}: {options.file}\n")
    print("\n".join(f"{name:{width}}  {words}" for name, words in derived))
    print("\nwhat fits where\n")
    print("\n".join(f"{name:{width}}  {words}" for name, words in room))


def _verilog(options: argparse.Namespace) -> None:
    from hw.accelerator import Accelerator  # elaboration is not needed for --help
    from hw.common.vendor_wrapper import vendor_wrapper
    from hw.export import readable_verilog

    config = AcceleratorConfig.load(options.config)
    folder: Path = options.output or Path("build/verilog") / config.name
    if folder.suffix == ".v":
        raise ValueError(f"{folder}: a folder is wanted, every module has a file of its own")
    top, outer = options.top, f"{options.top}_axi"
    texts = readable_verilog(Accelerator(config), top)
    texts[outer] = vendor_wrapper(top, outer, 8 * config.port.bytes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.v").write_text(text)
    listed = folder / f"{top}.f"
    listed.write_text("".join(f"{name}.v\n" for name in texts))
    size = sum(map(len, texts.values())) / 1e6
    print(f"{folder}: {config.name}, {len(texts)} modules, {size:.1f} MB")
    print(f"{folder / outer}.v: {outer} around {top}, for other vendors' tools")
    print(f"{listed}: all files")


COMMANDS = {
    "config": _config,
    "verilog": _verilog,
    "synth": _synth,
    "bitstream": _bitstream,
    "header": _header,
    "fit": _fit,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code.

    2 for a configuration that cannot be built, 1 for a tool that failed.
    """
    options = _arguments().parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except BrokenPipeError:
        raise  # an end, not an error: shell.py
    except (ConfigError, ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SynthesisError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    leave(main)
