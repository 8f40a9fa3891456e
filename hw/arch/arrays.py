"""Archives of named arrays (.npz), whatever the names are.

`numpy.savez` takes arrays as keyword arguments and `NpzFile` opens members by their file names, so
arrays called ``file`` or ``x.npy`` get lost in them. A tensor of a user's graph may be called so.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SUFFIX = ".npy"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member, so that equal arrays are equal files."""


class ArraysError(ValueError):
    """A file that is no archive of arrays, or is damaged."""


def read_arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an archive by name, in its order.

    Raises
    ------
    ArraysError
        If it is missing or damaged; names the file.
    """
    if path.is_file() and not zipfile.is_zipfile(path):
        raise ArraysError(f"{path} is not an .npz archive of arrays, or it is truncated")
    result = {}
    try:
        with zipfile.ZipFile(path) as archive:
            if len(archive.namelist()) not in (_count(path), 0xFFFF):
                raise ArraysError(f"{path} is not an .npz archive of arrays: members are missing")
            for member in archive.namelist():
                with archive.open(member) as file:
                    value = np.lib.format.read_array(file, allow_pickle=False)
                result[member.removesuffix(SUFFIX)] = value
    except ArraysError:
        raise
    except OSError as error:
        raise ArraysError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile, zlib and numpy raise many kinds on damaged members
        raise ArraysError(f"{path} is not an .npz archive of arrays: {error}") from error
    return result


def _count(path: Path) -> int:
    """Members as the archive's end says: of a damaged directory zipfile may list fewer."""
    data = path.read_bytes()[-(1 << 16) :]
    end = data.rfind(b"PK\x05\x06")
    return int.from_bytes(data[end + 10 : end + 12], "little")


def write_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write an archive that `read_arrays` and `numpy.load` read."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, value in arrays.items():
            with archive.open(zipfile.ZipInfo(name + SUFFIX, EPOCH), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(value), allow_pickle=False)
