import av
import numpy as np
import pytest

from models.export import export
from tests.models.networks import C3D


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Tiny exports of the C3D family, by name."""
    folder = tmp_path_factory.mktemp("tiny")
    return {name: export(name, folder / f"{name}.onnx", "tiny") for name in C3D}


def _write_video(path, frames=12, height=48, width=80):
    """A red square that moves right by four pixels per frame on a grey ground."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        for t in range(frames):
            picture = np.full((height, width, 3), 128, np.uint8)
            picture[16:32, 8 + 4 * t : 24 + 4 * t] = (220, 20, 20)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.fixture(scope="session")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("video") / "square.mp4"
    _write_video(path)
    return path
