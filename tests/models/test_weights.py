"""State dicts under the names of public releases, made here from a network's own weights."""

import re

import numpy as np
import pytest
import torch

from models.__main__ import main
from models.errors import ModelsError
from models.export import weighted
from models.registry import ENTRIES
from models.weights import load

# Names of the releases by ours, written out the other way round than weights.py maps them.
C3D_SEQUENCE = {
    "convs.conv1": "features.0",
    "convs.conv2": "features.3",
    "convs.conv3a": "features.6",
    "convs.conv3b": "features.8",
    "convs.conv4a": "features.11",
    "convs.conv4b": "features.13",
    "convs.conv5a": "features.16",
    "convs.conv5b": "features.18",
    "fc6": "classifier.0",
    "fc7": "classifier.3",
    "fc8": "classifier.6",
}
SLOWFAST = {
    "inner.0.0": "conv1",
    "inner.0.1": "bn1",
    "inner.2.0": "conv2",
    "inner.2.1": "bn2",
    "pointwise.0": "conv3",
    "pointwise.1": "bn3",
    "projection.0": "downsample.0",
    "projection.1": "downsample.1",
}


def _slowfast(name):
    if name == "fc.weight":
        return name
    path, *rest = name.split(".")
    if path.endswith("_stem"):
        return f"{path.removesuffix('stem')}{'conv1' if rest[0] == '0' else 'bn1'}.{rest[1]}"
    if path == "lateral":
        return f"lateral_{'p1' if rest[0] == '0' else f'res{int(rest[0]) + 1}'}.{rest[2]}"
    layer = SLOWFAST[".".join(rest[2:-1])]
    return f"{path}_res{int(rest[0]) + 2}.{rest[1]}.{layer}.{rest[-1]}"


def _vtn(name, tensor, heads):
    """Name and tensor as VTN's release has them, ResNet encoder."""
    if name.startswith("encoder.backbone."):
        layer, rest = re.fullmatch(r"encoder\.backbone\.(\w+?\d)\.(.+)", name).groups()
        place = {"conv1": 0, "bn1": 1}.get(layer) if "layer" not in layer else int(layer[5:]) + 3
        return f"resnet.{place}.{rest}", tensor
    if name.startswith("encoder.reduce"):
        return name.replace("encoder.reduce", "reduce_conv"), tensor
    if name == "decoder.position":
        return "self_attention_decoder.position_encoding.position_enc.weight", tensor
    if name.startswith("decoder.fc"):
        return name.removeprefix("decoder."), tensor
    number, rest = re.fullmatch(r"decoder\.blocks\.(\d+)\.(.+)", name).groups()
    if rest.startswith("attention"):
        out, width = tensor.shape
        split = tensor.reshape(heads, out // heads, width).permute(0, 2, 1).contiguous()
        rest = f"slf_attn.w_{rest.split('.')[1][0]}s"
        return f"self_attention_decoder.layers.{number}.{rest}", split
    layer, kind = rest.split(".")
    if layer.startswith("norm"):
        inner = "slf_attn" if layer == "norm1" else "pos_ffn"
        rest = f"{inner}.layer_norm.{'a_2' if kind == 'weight' else 'b_2'}"
    else:
        rest = f"pos_ffn.w_{'1' if layer == 'expand' else '2'}.{kind}"
        tensor = tensor[..., None] if kind == "weight" else tensor
    return f"self_attention_decoder.layers.{number}.{rest}", tensor


def _liteeval(name):
    head, rest = name.split(".", 1)
    if head in ("small", "large"):
        layer, kind = rest.split(".")
        return f"{head}_rnn.{kind}_{'ih' if layer == 'input' else 'hh'}"
    heads = {"embed_fine": "proj_mlp", "embed_coarse": "small_proj_mlp", "gate": "linear"}
    return f"{heads.get(head, head)}.{rest}"


def _released(case, config, state):
    """A network's state dict under the release's names."""
    if case == "c3d_sequence":
        found = {}
        for name, tensor in state.items():
            layer, kind = name.rsplit(".", 1)
            found[f"{C3D_SEQUENCE[layer]}.{kind}"] = tensor
        return found
    if case == "c3d_layers":
        return {name.removeprefix("convs."): tensor for name, tensor in state.items()}
    if case == "slowfast":
        return {_slowfast(name): tensor for name, tensor in state.items()}
    if case == "vtn":
        return dict(_vtn(name, tensor, config.heads) for name, tensor in state.items())
    if case == "liteeval":
        encoders = ("coarse.", "fine.")
        return {_liteeval(n): t for n, t in state.items() if not n.startswith(encoders)}
    return dict(state)


CASES = [
    ("c3d_fc", "", "c3d_sequence"),
    ("c3d_fc", "", "c3d_layers"),
    ("slowfast", "", "slowfast"),
    ("r3d18_trad", "", "resnet3d"),
    ("r3d50_trad", "", "resnet3d"),
    ("vtn_resnet34", "scale=model", "vtn"),
    ("vtn_resnet50", "", "vtn"),
    ("liteeval", "rules=code", "liteeval"),
]


def _pair(name, variant):
    """A network whose weights are released, and another one to load them into."""
    entry = ENTRIES[name]
    config = entry.config("tiny", variant)
    torch.manual_seed(3)
    source = config.build().eval()
    with torch.no_grad():
        for tensor in source.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    torch.manual_seed(4)
    return entry, config, source, config.build().eval()


@pytest.mark.parametrize(("name", "variant", "case"), CASES)
def test_a_release_loads_to_the_last_tensor(name, variant, case, tmp_path):
    entry, config, source, target = _pair(name, variant)
    state = source.state_dict()
    path = tmp_path / "release.pth"
    torch.save({"epoch": 3, "state_dict": _wrapped(_released(case, config, state))}, path)
    drawn = load(entry.weights, config, target, path)
    assert drawn == (["coarse", "fine"] if case == "liteeval" else [])
    for key, tensor in target.state_dict().items():
        if not key.endswith("num_batches_tracked") and key.split(".")[0] not in drawn:
            assert torch.equal(tensor, state[key]), key


def _wrapped(state):
    """As nn.DataParallel saves it."""
    return {f"module.{name}": tensor for name, tensor in state.items()}


@pytest.mark.parametrize("case", ["mobilenetv2", "seresnext101"])
def test_encoders_of_vtn_load_under_their_sequences(case, tmp_path):
    entry, config, source, target = _pair(f"vtn_{case}", "")
    state = source.state_dict()
    released = {}
    for name, tensor in state.items():
        if not name.startswith("encoder.backbone."):
            key, value = _vtn(name, tensor, config.heads)
        elif case == "seresnext101":
            rest = name.removeprefix("encoder.backbone.layer")
            key, value = f"resnet.{rest}", tensor
        else:
            number, rest = name.removeprefix("encoder.backbone.features.").split(".", 1)
            inner = rest.removeprefix("conv.").rsplit(".", 1)
            if rest.startswith("conv."):
                flat = (
                    {"0.0": 0, "0.1": 1, "1": 3, "2": 4}
                    if number == "1"
                    else {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
                )
                rest = f"conv.{flat[inner[0]]}.{inner[1]}"
            key, value = f"resnet.{number}.{rest}", tensor
        released[key] = value
    path = tmp_path / "release.pth"
    torch.save(released, path)
    assert load(entry.weights, config, target, path) == []
    for key, tensor in target.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, state[key]), key


def test_a_file_of_the_whole_network_fits_its_decoder(tmp_path):
    _, config, source, _ = _pair("vtn_resnet34", "")
    path = tmp_path / "release.pth"
    torch.save(_released("vtn", config, source.state_dict()), path)
    decoder = ENTRIES["vtn_decoder"].config("tiny")
    target = decoder.build()
    load("vtn", decoder, target, path)
    assert torch.equal(target.position, source.decoder.position)


def test_attention_of_the_release_is_ours(tmp_path):
    _, config, source, _ = _pair("vtn_resnet34", "")
    layer = source.decoder.blocks[0].attention
    _, weight = _vtn("decoder.blocks.0.attention.query.weight", layer.query.weight, config.heads)
    x = torch.randn(config.tokens, config.width)
    theirs = torch.bmm(x.expand(config.heads, -1, -1), weight)  # as its code multiplies
    assert torch.allclose(layer._split(layer.query(x)), theirs, atol=1e-4)


def test_every_mismatch_is_listed(tmp_path):
    entry, config, source, target = _pair("c3d_fc", "")
    released = _released("c3d_layers", config, source.state_dict())
    released["conv1.weight"] = released["conv1.weight"][:, :2]
    released["fc9.weight"] = released.pop("fc8.weight")
    path = tmp_path / "release.pth"
    torch.save(released, path)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    with pytest.raises(ModelsError) as caught:
        load(entry.weights, config, target, path)
    message = str(caught.value)
    assert "3 mismatches" in message
    assert "conv1.weight has shape [8, 2, 3, 3, 3], the network's convs.conv1.weight" in message
    assert "fc9.weight has no place in the network" in message
    assert "fc8.weight is not in the file" in message
    assert all(torch.equal(before[n], t) for n, t in target.state_dict().items()), "untouched"


@pytest.mark.parametrize("content", [b"no file of torch", None])
def test_other_files_are_named(content, tmp_path):
    path = tmp_path / "release.pth"
    if content is None:
        torch.save({"epoch": 3}, path)
    else:
        path.write_bytes(content)
    config = ENTRIES["c3d_fc"].config("tiny")
    with pytest.raises(ModelsError, match="state dict"):
        load("c3d", config, config.build(), path)
    with pytest.raises(ModelsError, match="no file"):
        load("c3d", config, config.build(), tmp_path / "none.pth")


def test_the_command_exports_given_weights(tmp_path, capsys):
    config = ENTRIES["c3d_fc"].config("tiny")
    source = weighted(config, "tiny", 7)
    path, target = tmp_path / "release.pth", tmp_path / "c3d_fc.onnx"
    torch.save(_released("c3d_layers", config, source.state_dict()), path)
    common = ["export", "c3d_fc", "--size", "tiny", "--json", "-o", str(target)]
    assert main([*common, "--weights", str(path)]) == 0
    given = np.load(target.with_suffix(".npz"))["output:logits"]
    assert main(common) == 0
    assert not np.array_equal(given, np.load(target.with_suffix(".npz"))["output:logits"])
    with torch.no_grad():
        clip = np.load(target.with_suffix(".npz"))["input:clip"]
        logits = source(torch.from_numpy(clip)).numpy()
    assert given.argmax() == logits.argmax() and np.corrcoef(given[0], logits[0])[0, 1] > 0.99
    capsys.readouterr()
    command = ["export", "xwisenet", "--size", "tiny", "-o", str(target), "--weights", str(path)]
    assert main(command) == 2
    assert "no public release of xwisenet is known" in capsys.readouterr().err
