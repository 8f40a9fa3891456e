"""Command line of the hardware: `python -m hw verilog`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hw.arch.config import AcceleratorConfig, ConfigError


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hw", description="The accelerator's circuit.")
    commands = parser.add_subparsers(dest="command", required=True)
    verilog = commands.add_parser("verilog", help="write the Verilog of a configuration")
    verilog.add_argument(
        "--config", default="base", help="preset (tiny, base, ...) or a YAML file; default: base"
    )
    verilog.add_argument(
        "-o", "--output", type=Path, help="file to write; default: build/<config>.v"
    )
    verilog.add_argument(
        "--top", default="accelerator", help="name of the top module; default: accelerator"
    )
    return parser


def _verilog(options: argparse.Namespace) -> None:
    from hw.accelerator import verilog  # elaboration is not needed for --help

    config = AcceleratorConfig.load(options.config)
    path: Path = options.output or Path("build") / f"{config.name}.v"
    text = verilog(config, name=options.top)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(f"{path}: {config.name}, {len(text) / 1e6:.1f} MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (2 for a configuration that cannot be built)."""
    options = _arguments().parse_args(arguments)
    try:
        {"verilog": _verilog}[options.command](options)
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
