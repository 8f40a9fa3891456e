"""One layer from ONNX node to the array's first cycles, for docs/isa.md.

tests/contracts/test_worked_layer.py builds the layer, runs it, and finds every line and number.
"""

from __future__ import annotations

LISTING = """\
BEGIN        fingerprint=0xbea5314d66ee4393  ; 0

; conv (conv), stores y_q
LOAD         dram=0x3000 space=1 beats=36  ; 1, space WEIGHT, from image
LOAD         dram=0x30c0 space=2 beats=8  ; 2, space PARAMETER, from image
LOAD         dram=0x1000 local=256 beats=25  ; 3, space ACTIVATION, from x_q
ARRAY        waits=LOAD:1 zero_point=128 activation=250 counts=5,5,1,1,3,3,1,1 \
deltas=1,1,1,-24,-23,-21,-11,-11 starts=-1,-1,0 bounds=5,5,1  ; 4, mode GEMM
DRAIN        waits=ARRAY:1 counts=5,5,1,1 accumulator_deltas=1,5,25,1,1,1,1 \
destination_deltas=25,1,1,1,1  ; 5
STORE        waits=DRAIN:1 dram=0x2000 beats=25  ; 6, to y_q
HALT  ; 7"""

TIMES = (
    ("LOAD", 1, 82, 206),
    ("LOAD", 2, 98, 214),
    ("LOAD", 3, 114, 239),
    ("ARRAY", 4, 241, 484),
    ("DRAIN", 5, 486, 531),
    ("STORE", 6, 533, 593),
)
"""Unit, instruction, issue, done of the cycle model, which are those of the circuit."""

TEXT = f"""\
## A layer, worked through

    x [1, 4, 5, 5] → Q → DQ → Conv 3×3, 4 → 4 channels, padding 1 → Relu → Q → DQ → y

on `tiny_direct` (4 × 4 multipliers, rows of 4 bytes) is this program, as program.asm shows it:

```
{LISTING}
```

**Compiler.** The codes of x lie in DRAM from 0x1000 on, a row of 4 lanes for each of 25 pixels; the
ReLU is the clamp of DRAIN, since the result's zero point is 0. One tile holds everything: 9 weight
blocks of 4 × 4 taps (144 bytes are 36 beats), parameters of 4 channels (32 bytes are 8 beats), 25
rows.

**Waits.** `LOAD:1` says: the latest LOAD before this one in program order must have completed. All
LOADs complete in order, so one distance covers the three.

**ARRAY.** The nest is x, y, t, co, kx, ky, kt, ci: 25 positions for each of 9 taps. The map lies
from row 256 on, and `activation=250` is where the pixel at (−1, −1) would lie: 256 − 5 − 1.
`starts` −1, −1 and `bounds` 5, 5 let the feed see which positions lie in the padding; there it
takes no row, and the zero point 128 stands for it, so that the centred operand is 0. The deltas
are added when their counter advances: 1 from pixel to pixel and from line to line (5 pixels further
on is one row beyond the last), −23 to the next tap: from row 274 back to 251.

**First cycles.** The shadow weights of block 0 (tap 0, 0) load in 4 cycles, a row of 4 × 4 a cycle,
then become the weights. 25 vectors pass: rows 250 to 274, the 5 of line −1 and the first of every
line as zeros. Column c takes each vector c cycles after column 0, multiplies its 4 lanes, and adds
the sum to row 0 to 24 of the accumulators, which the first tap overwrites. Meanwhile the weights of
tap (1, 0) load. 9 blocks × 25 vectors are 225 cycles; ARRAY takes {TIMES[3][3] - TIMES[3][2]}, the
rest is the first weights, the pipeline and the end.

**DRAIN** takes an accumulator row a cycle, requantizes its 4 sums and writes rows 0 to 24;
**STORE** sends them to 0x2000. Issue and done of all, from the start of the run:

| unit | instruction | issue | done |
|---|---|---|---|
""" + "\n".join(f"| {u} | {pc} | {issue} | {done} |" for u, pc, issue, done in TIMES)
