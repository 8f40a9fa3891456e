"""What users bring: names, kinds of files, and how pixels become numbers; nothing is guessed."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from hw.arch.axes import standard
from hw.arch.layout import TensorLayout
from hw.arch.program import Feed, Input, Tensor
from models.preprocessing import Preprocessing
from sim.build import Build
from sim.errors import InputError
from sim.inputs import given
from tests.sim.pictures import pixels, write_image

HOW = Preprocessing((0.5, 0.25, 0.125), (0.5, 0.25, 0.25))


def build(shape, folder, dtype="float32", names=("x",), signed=False):
    """As much of a build as reading an input needs."""
    ports = tuple(Input(name, shape, dtype) for name in names)
    layout = TensorLayout.dense((8, 1, 1, 1), 4)
    tensors = {
        f"{n}_q": Tensor(f"{n}_q", 0, layout, signed, 0.5, 3, shape, standard((1, 8, 1, 1, 1)))
        for n in names
    }
    program = SimpleNamespace(
        inputs=ports,
        feeds=[Feed(f"{n}_q", n) for n in names],
        tensor=tensors.__getitem__,
        states=(),
    )
    return Build(folder, program, None, {})


@pytest.fixture
def images(tmp_path):
    """A folder of five pictures of 6×8, and their pixels."""
    folder = tmp_path / "frames"
    folder.mkdir()
    array = pixels(1, 5, 6, 8, 3)
    for i, picture in enumerate(array):
        write_image(folder / f"{i:02}.png", picture)
    (folder / "notes.txt").write_text("no picture")
    return folder, array


def expected(picture):
    """By the definition, channels last."""
    real = picture.astype(np.float64) / 255
    return (real - [0.5, 0.25, 0.125]) / [0.5, 0.25, 0.25]


def test_an_image_for_channels_first_and_last(images, tmp_path):
    folder, array = images
    found = given(build((1, 3, 6, 8), tmp_path), folder / "02.png", HOW)
    assert found.arrays["x"].dtype == np.float32
    assert np.allclose(found.arrays["x"][0].transpose(1, 2, 0), expected(array[2]), atol=1e-6)
    assert "RGB, NCHW, (pixel / 255 - (0.5, 0.25, 0.125)) / (0.5, 0.25, 0.25)" in found.notes["x"]
    last = given(build((1, 6, 8, 3), tmp_path), folder / "02.png", HOW).arrays["x"]
    assert np.array_equal(last[0], found.arrays["x"][0].transpose(1, 2, 0))
    swapped = given(
        build((1, 3, 6, 8), tmp_path),
        folder / "02.png",
        Preprocessing((0.0,), (1.0,), scale=1.0, order="BGR"),
    )
    assert np.array_equal(swapped.arrays["x"][0], array[2].transpose(2, 0, 1)[::-1])


@pytest.mark.parametrize(
    ("shape", "order"),
    [((1, 3, 4, 6, 8), (3, 0, 1, 2)), ((1, 4, 3, 6, 8), (0, 3, 1, 2)), ((1, 4, 6, 8, 3), None)],
)
def test_a_folder_is_a_clip_in_the_order_of_names(images, tmp_path, shape, order):
    folder, array = images
    found = given(build(shape, tmp_path), folder, HOW).arrays["x"]
    wanted = expected(array[:4])
    wanted = wanted if order is None else wanted.transpose(order)
    assert np.allclose(found[0], wanted, atol=1e-6)


def test_start_and_stride_choose_frames(images, tmp_path):
    folder, array = images
    how = Preprocessing((0.0,), (1.0,), scale=1.0, start=1, stride=2)
    found = given(build((1, 3, 2, 6, 8), tmp_path), folder, how)
    assert np.array_equal(found.arrays["x"][0].transpose(1, 2, 3, 0), array[[1, 3]])
    assert "01.png … 03.png (2 of 5 images)" in found.notes["x"]
    with pytest.raises(InputError, match="has 5 frames; 3 frames at stride 2 need 6 from 1 on"):
        given(build((1, 3, 3, 6, 8), tmp_path, names=("x",)), folder, _axes(how, "NCTHW"))


def _axes(how, axes):
    return Preprocessing(**{**how.__dict__, "axes": axes})


def test_images_for_a_batch(images, tmp_path):
    folder, array = images
    raw = Preprocessing((0.0,), (1.0,), scale=1.0)
    found = given(build((5, 3, 6, 8), tmp_path), folder, raw).arrays["x"]
    assert np.array_equal(found.transpose(0, 2, 3, 1), array)


def test_pixels_need_numbers(images, tmp_path):
    folder, array = images
    with pytest.raises(InputError, match="how do pixels become numbers"):
        given(build((1, 3, 6, 8), tmp_path), folder / "00.png")
    HOW.save(tmp_path / "preprocessing.json")
    found = given(build((1, 3, 6, 8), tmp_path), folder / "00.png")
    assert found.preprocessing == HOW and found.record()["preprocessing"]["std"] == HOW.std
    raw = given(build((1, 3, 6, 8), folder, "uint8"), folder / "00.png").arrays["x"]
    assert np.array_equal(raw[0], array[0].transpose(2, 0, 1)), "of a uint8 input as they are"


def test_shapes_that_do_not_tell(images, tmp_path):
    folder, _ = images
    for shape, message in (
        ((1, 3, 3, 6, 8), "may be NCTHW or NTCHW"),
        ((1, 7, 6, 8), "has no axis of 1 or 3 channels"),
        ((1, 8), "has no axis of 1 or 3 channels"),
    ):
        with pytest.raises(InputError, match=message):
            given(build(shape, tmp_path), folder, HOW)
    found = given(build((1, 3, 3, 6, 8), tmp_path), folder, _axes(HOW, "NTCHW"))
    assert found.arrays["x"].shape == (1, 3, 3, 6, 8)
    with pytest.raises(InputError, match="axes NCHW do not fit"):
        given(build((1, 3, 3, 6, 8), tmp_path), folder, _axes(HOW, "NCHW"))


def test_arrays_of_pixels(tmp_path):
    array = pixels(2, 1, 3, 6, 8)
    np.save(tmp_path / "a.npy", array)
    found = given(build((1, 3, 6, 8), tmp_path), tmp_path / "a.npy", HOW).arrays["x"]
    assert np.allclose(
        found.transpose(0, 2, 3, 1), expected(array.transpose(0, 2, 3, 1)), atol=1e-6
    )
    np.save(tmp_path / "b.npy", array[0].transpose(1, 2, 0))
    last = given(build((1, 3, 6, 8), tmp_path), tmp_path / "b.npy", HOW).arrays["x"]
    assert np.array_equal(last, found)
    np.save(tmp_path / "c.npy", array[:, :, :5])
    with pytest.raises(InputError, match=r"\[1, 3, 6, 8\], or \[1, 6, 8, 3\] \(channels last\)"):
        given(build((1, 3, 6, 8), tmp_path), tmp_path / "c.npy", HOW)


def test_integers_mean_nothing_by_themselves(tmp_path):
    array = pixels(3, 1, 3, 6, 8)
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match="say what it holds, with --mean and --std"):
        given(build((1, 3, 6, 8), tmp_path), tmp_path / "a.npy")
    found = given(build((1, 3, 6, 8), tmp_path), tmp_path / "a.npy", codes=True).arrays["x"]
    assert np.array_equal(found, (array.astype(np.float32) - 3) * np.float32(0.5))
    assert (
        "codes of its quantizer"
        in given(build((1, 3, 6, 8), tmp_path), tmp_path / "a.npy", codes=True).notes["x"]
    )
    np.save(tmp_path / "s.npy", array.view(np.int8))
    with pytest.raises(InputError, match="must be float32"):
        given(build((1, 3, 6, 8), tmp_path), tmp_path / "s.npy", HOW)
    assert given(build((1, 3, 6, 8), tmp_path, "uint8"), tmp_path / "a.npy").arrays["x"] is not None


def test_signed_integers_are_codes_of_a_signed_quantizer(tmp_path):
    array = pixels(3, 1, 3, 6, 8).view(np.int8)
    np.save(tmp_path / "s.npy", array)
    found = given(build((1, 3, 6, 8), tmp_path, signed=True), tmp_path / "s.npy")
    assert np.array_equal(found.arrays["x"], (array.astype(np.float32) - 3) * np.float32(0.5))
    assert "codes of its quantizer" in found.notes["x"]


def test_floats_and_names(tmp_path):
    value = np.ones((1, 3, 6, 8), np.float32)
    np.save(tmp_path / "a.npy", value[0])
    assert given(build((1, 3, 6, 8), tmp_path), tmp_path / "a.npy").arrays["x"].shape == value.shape
    np.savez(tmp_path / "two.npz", **{"x": value, "input:y": value})
    found = given(build((1, 3, 6, 8), tmp_path, names=("x", "y")), tmp_path / "two.npz")
    assert list(found.arrays) == ["x", "y"] and found.source.endswith("two.npz")
    with pytest.raises(InputError, match=r"one \.npy does not fit the inputs 'x' .* and|'y'"):
        given(build((1, 3, 6, 8), tmp_path, names=("x", "y")), tmp_path / "a.npy")
    other = given(build((1, 3, 6, 8), tmp_path, names=("x", "y")), tmp_path / "two.npz")
    assert other.digest == found.digest
    np.savez(tmp_path / "other.npz", **{"x": value, "input:y": 2 * value})
    changed = given(build((1, 3, 6, 8), tmp_path, names=("x", "y")), tmp_path / "other.npz")
    assert changed.digest != found.digest
    for named in ({"x": value, "input:x": value}, {"x": value, "input:x": value, "input:y": value}):
        np.savez(tmp_path / "twice.npz", **named)
        with pytest.raises(InputError, match="two arrays for one input: 'x' and 'input:x'"):
            names = ("x", "y")[: len(named) - 1]
            given(build((1, 3, 6, 8), tmp_path, names=names), tmp_path / "twice.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mean": 0.5}, "mean and std must be given"),
        ({"mean": 0.5, "std": 0}, "std must be positive"),
        ({"mean": [1, 2], "std": 1}, "mean must be one number or three"),
        ({"mean": 0, "std": 1, "colour": "red"}, "no field 'colour'; there are mean, std"),
        ({"mean": 0, "std": 1, "stride": 1.5}, "stride is 1.5, which is no int"),
        ({"mean": 0, "std": 1, "order": "GBR"}, "order must be RGB or BGR"),
        ([1], "holds no object"),
    ],
)
def test_damaged_preprocessing_is_refused(images, tmp_path, content, message):
    folder, _ = images
    (tmp_path / "preprocessing.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        given(build((1, 3, 6, 8), tmp_path), folder / "00.png")


def test_resize_and_stretch(images, tmp_path):
    folder, array = images
    raw = {"mean": (0.0,), "std": (1.0,), "scale": 1.0}
    crop = given(build((1, 3, 4, 4), tmp_path), folder / "00.png", Preprocessing(**raw, resize=6))
    assert np.array_equal(crop.arrays["x"][0].transpose(1, 2, 0), array[0, 1:5, 2:6])
    assert "center crop of a side of 6 to 4×4" in crop.notes["x"]
    with pytest.raises(InputError, match="a shorter side of 3 does not cover the input of 4×4"):
        given(build((1, 3, 4, 4), tmp_path), folder / "00.png", Preprocessing(**raw, resize=3))
    whole = given(
        build((1, 3, 6, 8), tmp_path), folder / "00.png", Preprocessing(**raw, crop="stretch")
    )
    assert np.array_equal(whole.arrays["x"][0].transpose(1, 2, 0), array[0])
