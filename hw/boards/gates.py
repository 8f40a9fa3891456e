"""The core after synthesis, as Verilog that simulates: ECP5 cells with their behaviour."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyosys

from hw.arch.config import AcceleratorConfig
from hw.synthesis import TOP, synthesise

__all__ = ["blocks", "gate_level", "netlist"]

BLOCKS = Path(__file__).parent / "cells" / "ecp5_blocks.v"
LATTICE = Path(pyosys.__file__).parent / "share" / "lattice"
LIBRARY = ("common_sim.vh", "ccu2c_sim.vh")
"""Yosys' models of the cells that it knows the behaviour of."""
USED = ("LUT4", "LUT2", "CCU2C", "TRELLIS_DPR16X4")
INSTANCES = ("CCU2C", "TRELLIS_DPR16X4", "DP16KD", "MULT18X18D")
RAM_SETTINGS = (
    *("DATA_WIDTH_A", "DATA_WIDTH_B", "REGMODE_A", "REGMODE_B", "CSDECODE_A", "CSDECODE_B"),
    *("CLKAMUX", "CLKBMUX", "WRITEMODE_A", "WRITEMODE_B"),
)
RAM_DEFAULTS = {"CLKAMUX": "CLKA", "CLKBMUX": "CLKB"}
MULTIPLIER_SETTINGS = (
    *(f"REG_{place}_{what}" for place in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
      for what in ("CLK", "CE", "RST")),
    *("MULT_BYPASS", "RESETMODE"),
)  # fmt: skip


def _pins(name: str, width: int) -> list[str]:
    """Pins of a bus, the highest first, as the library's cells have them."""
    return [f"{name}{bit}" for bit in reversed(range(width))]


def _block(
    name: str,
    inner: str,
    settings: dict[str, str],
    ignored: dict[str, str],
    ins: dict[str, list[str]],
    outs: dict[str, list[str]],
    more: list[str],
) -> str:
    """A cell of the library's name and pins around its model.

    Parameters
    ----------
    settings: parameters and their defaults, which the model takes. ignored: those it does not.
    ins, outs: the model's ports and the cell's pins that make them. more: pins without a meaning.
    """
    parameters = [f"  parameter {key} = {value}" for key, value in (settings | ignored).items()]
    inputs = [pin for pins in ins.values() for pin in pins if "'" not in pin]
    outputs = [pin for pins in outs.values() for pin in pins]
    taken = [f".{key}({value})" for key, value in settings.items()]
    taken = [f".{key}({key})" for key in settings]
    if name == "DP16KD":
        slices = ", ".join(f"INITVAL_{n:02X}" for n in reversed(range(64)))
        taken = [f".{key}({key})" for key in settings if not key.startswith("INITVAL")]
        taken.append(f".INIT({{{slices}}})")
    joins = [f".{port}({{{', '.join(pins)}}})" for port, pins in (ins | outs).items()]
    return "\n".join(
        [
            f"module {name} #(",
            ",\n".join(parameters),
            ") (",
            f"  input {', '.join([*inputs, *more])},",
            f"  output {', '.join(outputs)}",
            ");",
            f"  {inner} #({', '.join(taken)}) model (",
            "    " + ",\n    ".join(joins),
            "  );",
            "endmodule\n",
        ]
    )


def blocks() -> str:
    """Verilog of DP16KD and MULT18X18D, with the pins that netlists use."""
    ram = {key: f'"{RAM_DEFAULTS.get(key, "")}"' for key in RAM_SETTINGS}
    ram |= {"DATA_WIDTH_A": "18", "DATA_WIDTH_B": "18", "REGMODE_A": '"NOREG"'}
    ram |= {"REGMODE_B": '"NOREG"', "CSDECODE_A": '"0b000"', "CSDECODE_B": '"0b000"'}
    ram |= {"WRITEMODE_A": '"NORMAL"', "WRITEMODE_B": '"NORMAL"'}
    ram |= {f"INITVAL_{n:02X}": "320'd0" for n in range(64)}
    ins, outs = {}, {}
    for side in "AB":
        low = side.lower()
        for pin in ("CLK", "CE", "WE", "RST"):
            ins[f"{pin.lower()}{low}"] = [f"{pin}{side}"]
        ins |= {f"cs{low}": _pins(f"CS{side}", 3), f"ad{low}": _pins(f"AD{side}", 14)}
        ins[f"di{low}"] = _pins(f"DI{side}", 18)
        outs[f"do{low}"] = _pins(f"DO{side}", 18)
    ignored = {"RESETMODE": '"SYNC"', "ASYNC_RESET_RELEASE": '"SYNC"', "GSR": '"ENABLED"'}
    texts = [_block("DP16KD", "ecp5_ram", ram, ignored, ins, outs, ["OCEA", "OCEB"])]
    product = {key: f'"{key[-3:].lstrip("_")}0"' for key in MULTIPLIER_SETTINGS}
    product |= {key: '"NONE"' for key in MULTIPLIER_SETTINGS if key.endswith("_CLK")}
    product |= {"MULT_BYPASS": '"DISABLED"', "RESETMODE": '"SYNC"'}
    ins = {name.lower(): _pins(name, 4) for name in ("CLK", "CE", "RST")}
    ins |= {"a": _pins("A", 18), "b": _pins("B", 18)}
    ins |= {name.lower(): [name] for name in ("SIGNEDA", "SIGNEDB", "SOURCEA", "SOURCEB")}
    ignored = {"GSR": '"ENABLED"', "SOURCEB_MODE": '"B_SHIFT"'}
    outs = {"p": _pins("P", 36)}
    texts.append(
        _block("MULT18X18D", "ecp5_multiplier", product, ignored, ins, outs, _pins("C", 18))
    )
    return "\n".join([BLOCKS.read_text(), *texts])


def _library() -> str:
    """Yosys' models of the cells that are used."""
    text = "\n".join((LATTICE / name).read_text() for name in LIBRARY)
    found = re.findall(r"^module (\w+) ?\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    assert set(USED) <= set(found), set(USED) - set(found)
    bodies = re.finditer(r"^module (\w+) ?\(.*?^endmodule\n", text, re.MULTILINE | re.DOTALL)
    models = [match[0] for match in bodies if match[1] in USED]
    return re.sub(r"^\s*specify.*?endspecify\n", "", "\n".join(models), flags=re.M | re.S)


def netlist(directory: Path, top: str, name: str) -> str:
    """Verilog of `design.json` in a directory, and of the cells in it.

    Tables, their multiplexers and flip-flops, of which there are very many, are written as what
    they do; the others are instances of their models.

    Parameters
    ----------
    top: its top module. name: what that is called.

    Raises
    ------
    ValueError
        If there is a cell without a behaviour, or one with a setting that is not modelled.
    """
    module = json.loads((directory / "design.json").read_text())["modules"][top]
    ports = [f"  {p['direction']} {_range(p['bits'])}{n}" for n, p in module["ports"].items()]
    lines: list[str] = []
    driven: dict[int, str] = {}
    for port, content in module["ports"].items():
        for place, bit in enumerate(content["bits"]):
            part = f"{port}[{place}]" if len(content["bits"]) > 1 else port
            if content["direction"] == "input":
                driven[bit] = "wire"
                lines.append(f"  assign n{bit} = {part};")
            else:
                lines.append(f"  assign {part} = {_bit([bit])};")
    cells = [cell for cell in module["cells"].values() if cell["type"] != "$scopeinfo"]
    for number, cell in enumerate(cells):
        outputs = [
            bit
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] == "output"
            for bit in bits
        ]
        lines += _cell(cell, f"c{number}")
        driven |= dict.fromkeys(outputs, "reg" if cell["type"] == "TRELLIS_FF" else "wire")
    nets = [f"  {kind} n{bit};" for bit, kind in driven.items()]
    text = "\n".join([f"module {name} (", ",\n".join(ports), ");", *nets, *lines, "endmodule\n"])
    loose = {int(bit) for bit in re.findall(r"\bn(\d+)\b", text)} - driven.keys()
    if loose:
        raise ValueError(f"nothing drives the nets {sorted(loose)[:8]}")
    return "\n".join([text, _library(), blocks()])


def _range(bits: list[Any]) -> str:
    return f"[{len(bits) - 1}:0] " if len(bits) > 1 else ""


def _bit(bits: list[Any]) -> str:
    """A pin's net; what nothing is connected to is 0."""
    if not bits or isinstance(bits[0], str):
        return "1'b1" if bits == ["1"] else "1'b0"
    return f"n{bits[0]}"


def _cell(cell: dict[str, Any], name: str) -> list[str]:
    """What a cell does, or an instance of its model."""
    kind, settings = cell["type"], cell["parameters"]
    pins = {pin: _bit(bits) for pin, bits in cell["connections"].items()}
    if kind == "LUT4":
        index = ", ".join(pins.get(pin, "1'b0") for pin in "DCBA")
        table = int(settings["INIT"], 2)
        return [f"  assign {pins['Z']} = 16'h{table:04x} >> {{{index}}};"]
    if kind == "PFUMX":
        return [f"  assign {pins['Z']} = {pins['C0']} ? {pins['ALUT']} : {pins['BLUT']};"]
    if kind == "L6MUX21":
        return [f"  assign {pins['Z']} = {pins['SD']} ? {pins['D1']} : {pins['D0']};"]
    if kind == "TRELLIS_FF":
        return _flip_flop(settings, pins)
    if kind not in INSTANCES:
        raise ValueError(f"no behaviour is known of {kind}")
    values = [f".{key}({_value(value)})" for key, value in settings.items()]
    joins = [f".{pin}({{{', '.join(_bit([b]) for b in reversed(bits))}}})"
             for pin, bits in cell["connections"].items()]  # fmt: skip
    return [f"  {kind} #({', '.join(values)}) {name} ({', '.join(joins)});"]


def _value(value: str) -> str:
    """A parameter: a number in binary digits, or a text."""
    if re.fullmatch(r"[01x]+", value):
        return f"{len(value)}'b{value.replace('x', '0')}"
    return f'"{_text(value)}"'


def _text(value: str) -> str:
    """A text; where it could be taken for a number Yosys has put a blank behind it."""
    return value.removesuffix(" ") if re.fullmatch(r"[01xz]* +", value) else value


def _flip_flop(settings: dict[str, str], pins: dict[str, str]) -> list[str]:
    """A flip-flop: its reset wins over its enable."""
    settings = {key: _text(value) for key, value in settings.items()}
    odd = {
        "SRMODE": settings.get("SRMODE", "LSR_OVER_CE") != "LSR_OVER_CE",
        "CLKMUX": settings.get("CLKMUX", "CLK") != "CLK",
        "LSRMODE": settings.get("LSRMODE", "LSR") != "LSR",
    }
    if any(odd.values()):
        raise ValueError(f"a flip-flop with a setting that is not modelled: {settings}")

    def chosen(setting: str, pin: str, default: str) -> str:
        way = settings.get(setting, default)
        return {"1": "1'b1", "0": "1'b0", "INV": f"~{pins.get(pin)}"}.get(
            way, pins.get(pin, "1'b0")
        )

    start = f"1'b{int(settings.get('REGSET', 'RESET') == 'SET')}"
    reset, enable = chosen("LSRMUX", "LSR", "LSR"), chosen("CEMUX", "CE", "1")
    store = f"{pins['Q']} <= {pins['DI']};"
    if enable != "1'b1":
        store = f"if ({enable}) {store}"
    if reset != "1'b0":
        store = f"if ({reset}) {pins['Q']} <= {start}; else {store}"
    return [
        f"  initial {pins['Q']} = {start};",
        f"  always @(posedge {pins['CLK']}) {store}",
    ]


def gate_level(
    config: AcceleratorConfig,
    directory: Path,
    cache: Path,
    name: str,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Synthesise a configuration; return its netlist as Verilog that simulates.

    Parameters
    ----------
    directory: for logs and results. cache: where mapped units are kept.
    name: of the top module, whose ports are the core's.

    Raises
    ------
    SynthesisError, ValueError
        As `synthesise` and `netlist`.
    """
    synthesise(config, directory, cache, say=say)
    return netlist(directory, TOP, name)
