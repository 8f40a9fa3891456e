"""Building blocks against torch's own or against formulas written out."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from models import eacnet, resnet3d, slowfast, vtn, xwisenet
from models.backbones import bninception, dpn, mobilenetv2, resnet, seresnext
from models.cells import GruCell, LstmCell, SruCell
from models.layers import UnbiasedLayerNorm, mean_over_frames, repeat_over_frames
from models.registry import ENTRIES


def _copy_cell(ours, theirs):
    with torch.no_grad():
        theirs.weight_ih.copy_(ours.input.weight)
        theirs.weight_hh.copy_(ours.hidden.weight)
        theirs.bias_ih.copy_(ours.input.bias)
        theirs.bias_hh.copy_(ours.hidden.bias)


def test_lstm_and_gru_are_torchs():
    torch.manual_seed(0)
    x, h, c = torch.randn(3, 5), torch.randn(3, 7), torch.randn(3, 7)
    ours, theirs = LstmCell(5, 7), nn.LSTMCell(5, 7)
    _copy_cell(ours, theirs)
    for a, b in zip(ours(x, h, c), theirs(x, (h, c)), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    ours, theirs = GruCell(5, 7), nn.GRUCell(5, 7)
    _copy_cell(ours, theirs)
    assert torch.allclose(ours(x, h)[0], theirs(x, h), atol=1e-6)
    with torch.no_grad():
        theirs.weight_hh[0, 0] += 0.5
    assert not torch.allclose(ours(x, h)[0], theirs(x, h), atol=1e-6)


@pytest.mark.parametrize("inputs", [7, 5])
def test_sru_is_its_formula(inputs):
    torch.manual_seed(0)
    cell = SruCell(inputs, 7)
    with torch.no_grad():
        for vector in (cell.forget, cell.reset, cell.forget_bias, cell.reset_bias):
            vector.normal_()
    x, c = torch.randn(3, inputs), torch.randn(3, 7)
    parts = (x @ cell.input.weight.T).split(7, dim=1)
    f = torch.sigmoid(parts[1] + cell.forget * c + cell.forget_bias)
    r = torch.sigmoid(parts[2] + cell.reset * c + cell.reset_bias)
    after = f * c + (1 - f) * parts[0]
    highway = x if inputs == 7 else parts[3]
    h, found = cell(x, None, c)
    assert torch.allclose(found, after, atol=1e-6)
    assert torch.allclose(h, r * after + (1 - r) * highway, atol=1e-6)


def test_unbiased_norm_is_its_formula():
    torch.manual_seed(0)
    norm = UnbiasedLayerNorm(9)
    with torch.no_grad():
        norm.weight.normal_()
        norm.bias.normal_()
    x = torch.randn(4, 9) * 3 + 1
    std = x.std(dim=-1, unbiased=True, keepdim=True)
    expected = norm.weight * (x - x.mean(-1, keepdim=True)) / (std + 1e-3) + norm.bias
    assert torch.allclose(norm(x), expected, atol=1e-5)
    biased = nn.functional.layer_norm(x, [9], norm.weight, norm.bias)
    assert not torch.allclose(norm(x), biased, atol=1e-2)


def test_attention_is_torchs():
    torch.manual_seed(0)
    config = replace(vtn.TINY["resnet34"], part="decoder")
    ours = vtn.Attention(config)
    x = torch.randn(2 * config.tokens, config.width)
    split = [
        (x @ m.weight.T).reshape(2, config.tokens, config.heads, -1).transpose(1, 2)
        for m in (ours.query, ours.key, ours.value)
    ]
    expected = nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).reshape(x.shape)
    assert torch.allclose(ours(x), expected, atol=1e-5)
    one = x[: config.tokens]  # a single clip goes without a batch axis
    assert torch.allclose(ours(one), expected[: config.tokens], atol=1e-5)
    ours.scale *= 2
    assert not torch.allclose(ours(x), expected, atol=1e-3)


def test_sinusoids():
    table = vtn.sinusoids(16, 512)
    assert table.shape == (16, 512)
    assert torch.equal(table[0], torch.tensor([0.0, 1.0]).repeat(256))
    assert table[3, 0] == torch.tensor(3.0).sin() and table[3, 1] == torch.tensor(3.0).cos()
    assert torch.allclose(table[5, 2], torch.tensor(5 * 10000 ** (-2 / 512)).sin())


def test_means_and_copies_of_frames():
    x = torch.arange(24.0).reshape(6, 4)
    assert torch.equal(mean_over_frames(x, 3), x.reshape(2, 3, 4).mean(1))
    assert torch.equal(mean_over_frames(x, 6), x.mean(0, keepdim=True))
    two = torch.tensor([[1.0], [2.0]])
    assert repeat_over_frames(two, 3).flatten().tolist() == [1, 1, 1, 2, 2, 2]
    assert repeat_over_frames(two[:1], 3).flatten().tolist() == [1, 1, 1]


@torch.no_grad()
def test_excitation_is_its_formula():
    torch.manual_seed(0)
    mgte = eacnet.TemporalExcitation(12, 5, 4).eval()
    x = torch.randn(8, 12, 3, 3)  # two clips of four frames
    squeezed = torch.relu(mgte.squeeze(x)).reshape(2, 4, 5, 3, 3)
    for clip in range(2):
        for pair in range(2):
            a, b = squeezed[clip, 2 * pair], squeezed[clip, 2 * pair + 1]
            tp = torch.relu(mgte.pair(torch.cat([a, b])[None]))
            seen = torch.cat([(a - b).abs(), squeezed[clip].mean(0)])
            gate = torch.sigmoid(mgte.gate(seen[None]))
            frames = x[4 * clip + 2 * pair : 4 * clip + 2 * pair + 2]
            expected = frames.amax(0) + mgte.restore(tp * gate)[0]
            assert torch.allclose(mgte(x)[2 * clip + pair], expected, atol=1e-5)
    one = mgte(x[:4])
    assert torch.allclose(one, mgte(x)[:2], atol=1e-5)
    bare = eacnet.TemporalExcitation(12, 5, 4, excite=False)
    assert torch.equal(bare(x)[1], x[2:4].amax(0)) and not list(bare.parameters())


@torch.no_grad()
def test_sequence_context_is_its_formula():
    torch.manual_seed(0)
    ss = xwisenet.SequenceContext(16, 3)
    ss.norm.weight.normal_()
    x = torch.randn(2, 16, 3, 4, 5)
    found = ss(x)
    for clip in range(2):
        contexts = []
        for t in range(3):
            frame = x[clip, :, t].reshape(16, 20)
            weights = (ss.attend.weight.reshape(16) @ frame).softmax(0)
            contexts.append(frame @ weights)
        squeezed = ss.squeeze.weight.reshape(2, 16) @ torch.stack(contexts, 1)
        normed = nn.functional.layer_norm(squeezed, [2, 3]) * ss.norm.weight[..., 0, 0]
        added = ss.restore.weight.reshape(16, 2) @ torch.relu(normed + ss.norm.bias[..., 0, 0])
        assert torch.allclose(found[clip], x[clip] + added[..., None, None], atol=1e-5)
    gc = xwisenet.GlobalContext(16, 3)
    weights = gc.attend(x).flatten(1).softmax(1)
    context = (x.flatten(2) * weights[:, None]).sum(2)
    assert torch.allclose(gc.context(x).flatten(1), context, atol=1e-5)


def test_shuffle_interleaves():
    x = torch.arange(6.0).reshape(1, 6, 1, 1, 1)
    assert xwisenet.shuffle(x).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("kind", resnet3d.CONVS)
def test_convolutions_keep_the_shape_of_the_traditional_one(kind):
    layer = resnet3d.convolution(kind, 4, 6, 2)
    assert layer(torch.zeros(1, 4, 5, 7, 8)).shape == (1, 6, 3, 4, 4)
    shapes = [tuple(m.kernel_size) for m in layer.modules() if isinstance(m, nn.Conv3d)]
    expected = {
        "traditional": [(3, 3, 3)],
        "st": [(1, 3, 3), (3, 1, 1)],
        "dw": [(3, 3, 3), (1, 1, 1)],
        "x": [(1, 3, 3), (3, 1, 1), (1, 1, 1)],
    }
    assert shapes == expected[kind]


@pytest.mark.parametrize(
    ("config", "side", "map_side"),
    [
        (resnet.TINY_RESNET34, 64, 2),
        (resnet.TINY_RESNET50, 64, 2),
        (mobilenetv2.TINY_MOBILENETV2, 32, 4),
        (seresnext.TINY_SERESNEXT101, 64, 2),
        (bninception.TINY_BNINCEPTION, 64, 2),
        (dpn.TINY_DPN107, 64, 2),
    ],
)
def test_backbones_announce_their_features(config, side, map_side):
    found = config.build().eval()(torch.zeros(2, 3, side, side))
    assert found.shape == (2, config.features, map_side, map_side)


def test_slow_path_variants_change_what_they_name():
    def kernels(config, path):
        network = config.build()
        return {
            (tuple(m.kernel_size), m.groups > 1)
            for m in getattr(network, path).modules()
            if isinstance(m, nn.Conv3d)
        }

    dense, depthwise = ((1, 3, 3), False), ((1, 3, 3), True)
    for name, slow, fast in (
        ("slowfast", dense, dense),
        ("slowfsb", depthwise, dense),
        ("slowdepth", depthwise, dense),
        ("fasttrg", depthwise, dense),
        ("fastdepth", dense, depthwise),
        ("fast3d", dense, ((3, 3, 3), False)),
    ):
        config = ENTRIES[name].config("tiny")
        for path, wanted in (("slow", slow), ("fast", fast)):
            spatial = {k for k in kernels(config, path) if k[0][1] == 3}
            assert spatial == {wanted}, (name, path)
    assert ENTRIES["fasttrg"].config("tiny").trg
    assert ENTRIES["fasttrg"].config("paper", "build=e2") == slowfast.E2_FASTTRG


def test_tiny_stays_honest():
    lanes = 16
    config = vtn.TINY["resnet34"]
    assert config.heads >= 2 and lanes < config.width and config.width % lanes
    assert config.tokens % lanes and (config.width // config.heads) % lanes
    halves = [width // 2 for width in xwisenet.TINY_XWISENET.widths]
    assert all(half % lanes for half in halves)
    lite = ENTRIES["liteeval"].config("tiny")
    assert lanes < lite.coarse_width < 2 * lanes < lite.fine_width < 3 * lanes
