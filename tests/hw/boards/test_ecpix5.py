"""What docs/boards.md says of the ECPIX-5: its PHY elaborates, with a port of 128 bits to level."""

import pytest

pytestmark = [pytest.mark.rtl, pytest.mark.filterwarnings("ignore")]


def test_the_phy_elaborates_and_wants_to_be_leveled():
    from litedram.modules import MT41K256M16
    from litedram.phy import ECP5DDRPHY
    from litex_boards.platforms import lambdaconcept_ecpix5
    from migen.fhdl.verilog import convert

    platform = lambdaconcept_ecpix5.Platform(device="85F")
    phy = ECP5DDRPHY(platform.request("ddram"), sys_clk_freq=75e6)
    settings = phy.settings
    assert settings.memtype == "DDR3" and settings.nphases == 2
    module = MT41K256M16(75e6, "1:2")
    assert module.memtype == "DDR3"
    assert settings.dfi_databits * settings.nphases == 128
    assert settings.read_leveling
    assert "IDDRX2DQA" in convert(phy).main_source
