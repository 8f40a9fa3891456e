"""Pages and schemas of the files are up to date, and real files keep the schemas."""

from __future__ import annotations

import json
import re

import pytest
from jschon import JSON, JSONSchema, create_catalog

from compiler.__main__ import main as compiler_main
from hw.arch import program
from hw.arch.formats import schema
from models.export import export
from sim.answers import Answer
from sim.distance import Distance
from sim.formats import DOCS, HEADER, RESULT, files
from sim.memory import Region
from sim.result import RunResult
from toolkit import run

pytestmark = pytest.mark.filterwarnings("ignore:Please use rfc3986:DeprecationWarning")  # jschon's


@pytest.mark.parametrize("name", files())
def test_what_is_written_is_up_to_date(name):
    text = files()[name]
    assert (DOCS / name).read_text() == text, "run `python -m sim.formats`"
    assert "|  |\n" not in text, "a field has no meaning"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A real program.bin's header, and run.json of a cycle and a functional run."""
    folder = tmp_path_factory.mktemp("net")
    export("fsb_c3d", folder / "net.onnx", "tiny")
    words = ["build", str(folder / "net.onnx"), "--config", "tiny", "-o", str(folder / "build")]
    assert compiler_main(words) == 0
    data = (folder / "build" / "program.bin").read_bytes()
    size = int.from_bytes(data[12:16], "little")
    results = [run(folder / "build", on).files[0] for on in ("cycle", "functional")]
    header, *found = (
        json.loads(text) for text in (data[48 : 48 + size], *(path.read_text() for path in results))
    )
    assert len(thinned(found[0])["layers"]) > 2, "layers of several shapes"
    return thinned(header), *map(thinned, found)


def shape(value):
    """Names and types of a JSON value; what a schema of these files asks about."""
    if isinstance(value, dict):
        return tuple((name, shape(each)) for name, each in sorted(value.items()))
    return tuple(map(shape, value)) if isinstance(value, list) else type(value).__name__


def thinned(value):
    """One element of each shape in every list: jschon takes a second for some hundred values."""
    if isinstance(value, dict):
        return {name: thinned(each) for name, each in value.items()}
    if not isinstance(value, list):
        return value
    if any(isinstance(each, dict) for each in value):
        return [thinned(each) for each in {shape(each): each for each in value}.values()]
    return value


def valid(kind, content):
    create_catalog("2020-12")
    return JSONSchema(schema(kind, "x")).evaluate(JSON(content)).valid


def test_real_files_keep_their_schemas(made):
    header, *results = made
    assert valid(program.Header, header)
    for result in results:
        assert valid(RunResult, result)
        for kind, name in ((Answer, "answers"), (Region, "memory"), (Distance, "distances")):
            assert result[name] or kind is Distance
            assert all(valid(kind, each) for each in result[name])
        assert not valid(Answer, {**result["answers"][0], "tied": None})


def test_what_breaks_a_schema_is_seen(made):
    header, result, _ = made
    for change in (
        {"colour": 1},
        {"cycles": "many"},
        {"layers": [{**result["layers"][0], "macs": 1.5}]},
    ):
        assert not valid(RunResult, {**result, **change}), change
    missing = {name: value for name, value in header.items() if name != "tensors"}
    assert not valid(program.Header, missing)
    wrong = {**header["tensors"][0], "signed": 1}
    assert not valid(program.Header, {**header, "tensors": [wrong]})


def test_every_class_of_the_files_has_a_table():
    for page, kinds in (("program-format.md", HEADER), ("run-json.md", RESULT)):
        text = (DOCS / page).read_text()
        for kind in kinds:
            section = text.split(f"### {kind.__name__}\n")[1].split("\n### ")[0]
            fields = re.findall(r"^\| `(\w+)` ", section, re.MULTILINE)
            assert fields == list(kind.__dataclass_fields__)
