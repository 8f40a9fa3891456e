"""Arms of a body that the data do not take are proven with forced decisions, in few trips."""

import dataclasses

import onnx

from compiler.ir import CompilerError
from compiler.pipeline import build as pipeline_build
from fuzz.structured import File
from hw.arch.config import AcceleratorConfig
from hw.arch.isa import Drain, Elementwise
from hw.arch.program import Program
from proof.arms import TRIPS
from proof.inputs import inputs_of
from proof.prove import prove_and_run
from sim import host, path
from sim.build import Build
from sim.functional.backend import dynamic_trace

TINY = AcceleratorConfig.load("tiny")


def swept(seed, folder, change=lambda program, block: None):
    """A proof's passes; the program is changed in an arm inside of a Loop that the data avoid."""
    model = File(seed, loops=True).model()
    onnx.save(model, folder / "net.onnx")

    def verify(place, graph):
        program = Program.load(place / "program.bin")
        made = Build.load(place)
        memory = host.start_image(program, made.feeds(inputs_of(made)[0]))
        seen = set(path.visited(program, dynamic_trace(program, TINY, memory)))
        for number, block in enumerate(program.blocks):
            arm = block.name.endswith((": then", ": else"))
            if number not in seen and arm and program.around(block):
                changed = change(program, block)
                if changed is not None:
                    changed.save(place / "program.bin")
                    break
        return prove_and_run(place, graph)

    return pipeline_build(folder / "net.onnx", TINY, folder / "build", verify=verify).proof


def another_zero(program, block):
    """One result of an arm is off by one step."""
    code = list(program.instructions)
    for pc in range(block.first, block.last):
        if isinstance(code[pc], Drain | Elementwise) and code[pc].high - code[pc].low > 1:
            code[pc] = dataclasses.replace(code[pc], low=code[pc].high)
            return dataclasses.replace(program, instructions=tuple(code))
    return None


def test_forced_passes_make_few_trips(tmp_path):
    """An arm that the data avoid runs, is compared, and a fault in it is found."""
    found = 0
    for seed in range(1, 40):
        proof = swept(seed, tmp_path)
        assert proof["passes"][0] == {"forced": {}, "trips": {}}
        if not any(TRIPS in each["trips"].values() for each in proof["passes"]):
            continue
        assert not proof["unreachable"]
        changed = []

        def change(program, block, changed=changed):
            changed.append(another_zero(program, block))
            return changed[-1]

        try:
            swept(seed, tmp_path, change)
        except CompilerError as error:
            assert "differs" in str(error) or "is stored as" in str(error)
            found += 1
        else:
            assert not any(changed), f"network {seed}: a fault in an arm was not found"
        if found == 3:
            return
    raise AssertionError(f"{found} faults were tried")
