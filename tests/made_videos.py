"""Tiny videos, made as they are needed."""

from fractions import Fraction

import av
import numpy as np


def corners(number=0, size=(64, 96)):
    """(H, W, 3): red above left, blue below right, a grey that tells the number above right."""
    height, width = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[height // 2 :, width // 2 :] = (0, 0, 255)
    pixels[: height // 2, width // 2 :] = (8 * number) % 256
    return pixels


def write_video(path, frames, *, codec="mpeg4", seconds=None, options=None, sound=False):
    """A video of frames (H, W, 3) uint8. Args: seconds: when each is shown; by default 10 a second."""
    with av.open(str(path), "w", options=options or {}) as file:
        stream = file.add_stream(codec, rate=10)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 4_000_000
        if seconds is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            write_sound(file)
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            if seconds is not None:
                frame.pts, frame.time_base = round(1000 * seconds[number]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def write_sound(file):
    stream = file.add_stream("aac", rate=8000)
    for number in range(4):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate, frame.pts = 8000, 1024 * number
        file.mux(stream.encode(frame))
    file.mux(stream.encode())
