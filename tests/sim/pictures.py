"""Pictures for tests: their pixels, and files without loss."""

import av
import numpy as np


def pixels(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def write_image(path, picture):
    """A file without loss."""
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width = picture.shape[:2]
        stream.pix_fmt = "rgb24"
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
