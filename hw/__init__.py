"""The accelerator: Amaranth RTL, and in `hw.arch` the contract every other room builds on."""
