#!/usr/bin/env bash
# LiteX: add_sdram puts a write-back cache before the SDRAM that other ports do not see.
#
# Versions: litex 2024.12, litedram 2024.12, migen 0.10.0
# Expected: in a SoC without a CPU a word that a bus master has written is in the SDRAM once the
#   write is acknowledged, or soon after, so that an accelerator on a port of its own
#   (crossbar.get_port) reads it.
# Seen: l2_cache_size is 8192 unless it is said otherwise, CPU or none: the word stays in the cache,
#   the master reads it back, and the port reads the memory's old content, here 0, as long as
#   nothing evicts the line. With l2_cache_size=0 both read the word.
# Run: bash findings/litex-sdram-cache-by-default.sh

set -euo pipefail
sed -n '2,/^$/s/^# \{0,1\}//p' "$0"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install --quiet litex==2024.12 litedram==2024.12 migen==0.10.0
cd "$tmp"
"$tmp/venv/bin/python" - <<'PY'
import logging
import sys

from litedram.modules import IS42S16160
from litedram.phy.model import SDRAMPHYModel
from litex.build.generic_platform import Pins
from litex.build.sim import SimPlatform
from litex.gen.sim import run_simulation
from litex.soc.integration.soc_core import SoCCore
from litex.soc.interconnect import wishbone

BASE, WORD = 0x40000000, 0x11223344
logging.disable(logging.WARNING)


class Chip(IS42S16160):
    nrows = 2048
    ncols = 16


class SoC(SoCCore):
    def __init__(self, **options):
        platform = SimPlatform("SIM", [("sys_clk", 0, Pins(1))])
        super().__init__(
            platform,
            clk_freq=50e6,
            cpu_type=None,
            with_uart=False,
            with_timer=False,
            with_ctrl=False,
            integrated_sram_size=0,
        )
        chip = Chip(50e6, "1:1")
        self.sdrphy = SDRAMPHYModel(chip, data_width=16, clk_freq=50e6)
        self.add_sdram("sdram", phy=self.sdrphy, module=chip, origin=BASE, **options)
        self.host = wishbone.Interface(data_width=32, address_width=32, addressing="word")
        self.bus.add_master("host", self.host)
        self.port = self.sdram.crossbar.get_port()


def bench(soc, seen):
    yield soc.sdram.dfii._control.storage.eq(1)
    yield from soc.host.write(BASE // 4, WORD)
    for _ in range(200):
        yield
    port = soc.port
    yield port.cmd.valid.eq(1)
    yield port.cmd.we.eq(0)
    yield port.cmd.addr.eq(0)
    yield port.rdata.ready.eq(1)
    yield
    while not (yield port.cmd.ready):
        yield
    yield port.cmd.valid.eq(0)
    while not (yield port.rdata.valid):
        yield
    seen["port"] = yield port.rdata.data
    seen["master"] = yield from soc.host.read(BASE // 4)


for options, cache in (({}, 8192), ({"l2_cache_size": 0}, None)):
    soc = SoC(**options)
    soc.finalize()
    seen = {}
    run_simulation(soc, bench(soc, seen))
    size = soc.constants.get("CONFIG_L2_SIZE")
    print(
        f"add_sdram options {options}: cache {size}, the master reads {seen['master']:#x},"
        f" the port's first 16 bits are {seen['port']:#x}"
    )
    in_memory = 0 if cache else WORD & 0xFFFF
    if (size, seen) != (cache, {"port": in_memory, "master": WORD}):
        sys.exit("changed: not the cache or the words described above")
PY
