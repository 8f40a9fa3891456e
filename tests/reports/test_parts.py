"""A region's row opens into its operators."""

import dataclasses

from reports import parts, tables
from reports.markup import table_html

CHAIN = {
    "stages": ["t", "s", "p"],
    "array": 450,
    "streamed": {"s": 100, "p": 300},
    "algorithm": {"s": "direct", "p": "F(4,3)"},
    "group": {"s": 1, "p": 2},
    "held": {"s": "1 of 1", "p": "2 of 4"},
    "slots": {"input": 2, "t": 2, "s": 1, "p": 2},
}
CONVOLUTION = {"parts": ["conv", "add"], "streamed": {"conv": 500}, "group": 3}


def with_tiling(report, tiling, members):
    layers = list(report.layers)
    layers[2] = dataclasses.replace(layers[2], members=members, tiling=tiling)
    return dataclasses.replace(report, layers=tuple(layers))


def cells(table):
    return [tuple(cell.text for cell in row) for row in table.rows]


def test_each_operator_of_a_chain_has_a_row(report):
    table = parts.parts(with_tiling(report, CHAIN, ("t", "s", "p")).layers[2])
    assert cells(table) == [
        ("t", "", "–", "–", "–", "", "2"),
        ("s", "direct", "100", "25.0 %", "1", "1 of 1", "1"),
        ("p", "F(4,3)", "300", "75.0 %", "2", "2 of 4", "2"),
    ]


def test_what_a_convolution_records_is_its_own(report):
    layer = with_tiling(report, CONVOLUTION, ("conv", "add")).layers[2]
    assert cells(parts.parts(layer)) == [
        ("conv", layer.algorithm, "500", "100.0 %", "3", "", "–"),
        ("add", "", "–", "–", "–", "", "–"),
    ]


def test_only_rows_with_records_open(report):
    """Whose the array's cycles are is not known of, say, a convolution and an attention pool."""
    plain = with_tiling(report, {"array": 500}, ("a", "b"))
    assert parts.opened(plain) == {} and "<details>" not in table_html(tables.layers(plain))
    chain = with_tiling(report, CHAIN, ("t", "s", "p"))
    opened = parts.opened(chain)
    assert list(opened) == [2]
    html = table_html(tables.layers(chain), opened=opened)
    assert html.count("<details>") == 1 and "<summary>joins t, s, p" in html


def test_layers_that_did_not_run_are_not_counted(report):
    chain = with_tiling(report, CHAIN, ("t", "s", "p"))
    layers = (dataclasses.replace(chain.layers[0], executions=0), *chain.layers[1:])
    assert list(parts.opened(dataclasses.replace(chain, layers=layers))) == [1]
