"""Archives of arrays whose names NumPy takes for something else."""

import numpy as np
import pytest

from hw.arch.arrays import ArraysError, read_arrays, write_arrays

NAMES = ["x", "x.npy", "file", "allow_pickle", "input:0", "/model/in put", "output:x", "arr_0"]


def arrays():
    return {name: np.full((2, 3), i, np.int8) for i, name in enumerate(NAMES)}


def test_round_trip(tmp_path):
    write_arrays(tmp_path / "a.npz", arrays())
    back = read_arrays(tmp_path / "a.npz")
    assert list(back) == NAMES
    assert all(np.array_equal(back[name], value) for name, value in arrays().items())
    write_arrays(tmp_path / "b.npz", arrays())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_numpy_and_we_read_each_other(tmp_path):
    np.savez(tmp_path / "theirs.npz", x=np.arange(3), scalar=np.float32(2))
    assert read_arrays(tmp_path / "theirs.npz")["scalar"] == np.float32(2)
    np.savez_compressed(tmp_path / "small.npz", x=np.arange(3))
    assert read_arrays(tmp_path / "small.npz")["x"].tolist() == [0, 1, 2]
    write_arrays(tmp_path / "ours.npz", {"x": np.arange(3)})
    with np.load(tmp_path / "ours.npz") as archive:
        assert archive["x"].tolist() == [0, 1, 2]


def test_twin_numpy_loses_an_array(tmp_path):
    """Why this module is there: of x and x.npy NumPy's reader gives one array twice."""
    write_arrays(tmp_path / "a.npz", arrays())
    with np.load(tmp_path / "a.npz") as archive:
        assert np.array_equal(archive["x.npy"], arrays()["x"])


def test_damage_is_one_error(tmp_path):
    path = tmp_path / "a.npz"
    write_arrays(path, arrays())
    data = path.read_bytes()
    for at in range(0, len(data), 3):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            back = read_arrays(path)
        except ArraysError as error:
            assert str(path) in str(error)
        else:
            assert list(back) == NAMES
            assert all(np.array_equal(back[name], value) for name, value in arrays().items())
    for size in (0, 10, len(data) // 2):
        path.write_bytes(data[:size])
        with pytest.raises(ArraysError):
            read_arrays(path)
    with pytest.raises(ArraysError, match="cannot read"):
        read_arrays(tmp_path / "none.npz")
    np.savez(tmp_path / "pickle.npz", x=np.array([{}], object))
    with pytest.raises(ArraysError, match="is not an"):
        read_arrays(tmp_path / "pickle.npz")
