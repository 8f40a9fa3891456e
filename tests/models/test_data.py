"""Clips from a seed and from a video file."""

import numpy as np
import pytest

from models.data import MEAN, STD, load_clip, normalise, synthetic_clip
from models.errors import ModelsError


def test_a_clip_is_read_scaled_and_cropped(video):
    clip = load_clip(video, 8, 24, 24)
    assert clip.shape == (1, 3, 8, 24, 24) and clip.dtype == np.float32
    pixels = (clip * STD + MEAN) * 255
    # 48×80 → 24×40, columns 8..32 stay; at t = 5 the square covers columns 14..22 of 40.
    assert abs(pixels[0, 0, 5, 12, 10] - 220) < 25 and pixels[0, 2, 5, 12, 10] < 60
    assert abs(pixels[0, :, 5, 2, 2] - 128).max() < 12
    red = pixels[0, 0] - pixels[0, 2]
    columns = [np.average(np.arange(24), weights=np.clip(r.mean(0), 0, None)) for r in red[3:7]]
    assert np.allclose(np.diff(columns), 2, atol=0.4), "four pixels per frame at half size"


def test_stride_skips_frames(video):
    every, second = load_clip(video, 8, 24, 24), load_clip(video, 4, 24, 24, stride=2)
    assert np.array_equal(second, every[:, :, ::2])


def test_bad_videos_are_named(video, tmp_path):
    with pytest.raises(ModelsError, match="no video file"):
        load_clip(tmp_path / "none.mp4", 4, 8, 8)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 50)
    with pytest.raises(ModelsError, match="cannot decode"):
        load_clip(broken, 4, 8, 8)
    with pytest.raises(ModelsError, match="has 12 frames; 16 frames at stride 1 need 16"):
        load_clip(video, 16, 8, 8)
    with pytest.raises(ModelsError, match="stride must be at least 1, not 0"):
        load_clip(video, 4, 8, 8, stride=0)


def test_normalisation():
    assert np.allclose(normalise(np.array([0, 114.75, 255])), [-2, 0, 2.4444444])


def test_synthetic_clips_look_natural():
    clip = synthetic_clip(3, 8, 48, 64)
    assert clip.shape == (1, 3, 8, 48, 64)
    assert np.array_equal(clip, synthetic_clip(3, 8, 48, 64))
    assert not np.array_equal(clip, synthetic_clip(4, 8, 48, 64))
    assert clip.min() == -2 and clip.max() == pytest.approx(22 / 9)

    def correlation(a, b):
        return np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1]

    assert correlation(clip[..., 1:], clip[..., :-1]) > 0.6, "neighbouring pixels"
    frames = correlation(clip[:, :, 1:], clip[:, :, :-1])
    assert 0.7 < frames < 0.999, "neighbouring frames are alike, but move"
    noise = np.random.default_rng(0).standard_normal((8, 48, 64))
    assert correlation(noise[..., 1:], noise[..., :-1]) < 0.1, "white noise would fail"
