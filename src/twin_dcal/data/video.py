"""Videos: sharp frames of one, spread over its time, decoded in a process of their own with limits. No torch here.

FFmpeg reads hundreds of formats, some of which name other files or addresses, and no header of a video bounds the work
that it makes. So its process gets an open file, never a name; three readers and a dozen decoders; so much memory and
CPU time; and it can open no file and no connection once it begins. To start it costs 0.2 s of CPU time a video.
"""

import contextlib
import math
import pkgutil
import struct
import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin_dcal.errors import ImageError
from twin_dcal.files import no_file
from twin_dcal.plural import plural

from .apart import decode_apart, limit_cpu, refuse
from .formats import VIDEOS_READ, video_format

MAX_FRAME_PIXELS = 10_000_000
"""Of a frame: 4096x2304, and a little more."""
MAX_PIXELS = 20_000_000_000
"""Of all frames: five minutes of 1920x1080 at 30 frames a second. It is by pixels, not by time, that the same files are
refused on a slow machine."""
MAX_SIDE = 1920
"""Frames that are larger are scaled down."""
NUM_SPREAD = 10
"""Frames are given from 10 to 19 equal parts of the time, the sharpest of each."""
_CPU_SECONDS, _WALL_SECONDS = 240, 600.0
_CHILD = "from twin_dcal.data.video import decode_in_child; decode_in_child()"
_MEMORY = 4 * 2**30
_READERS = {"mov": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm", "avi": "avi"}
_DECODERS = ("h264", "hevc", "vp8", "libvpx-vp8", "vp9", "libvpx-vp9", "libdav1d", "av1", "mpeg4",
             "mpeg2video", "mpeg1video", "h263", "mjpeg", "prores")  # fmt: skip
_MOST_BAD = 0.05  # of packets; a video that is cut out of another may begin with some
_FIRST_STEP = 1 / 50  # seconds of a part, at first
_UNTIMED = 1 / 25  # seconds after the frame before, for one whose time is not later
_SHARPNESS_WIDTH = 480
_HEAD = struct.Struct("<ddII")


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame, upright: seconds from the first one; how sharp it is, to be compared within one video; pixels (H, W, 3)
    uint8, RGB."""

    seconds: float
    sharpness: float
    pixels: NDArray[np.uint8]


def is_video(source: object) -> bool:
    """Whether this is the path of a file that begins as a video that is read."""
    if not isinstance(source, str | Path):
        return False
    try:
        if no_file(Path(source).stat().st_mode):
            return False
        with Path(source).open("rb") as file:
            return video_format(file.read(16)) is not None
    except (OSError, ValueError):
        return False


def spread_frames(path: str | Path) -> list[VideoFrame]:
    """Frames of a video, at least one and at most 19: its time in equal parts, and of each part the sharpest frame.

    Duration and number of frames are those that were decoded, not those that the header tells. ImageError, in one line,
    for what is no video or none of these formats, has no pictures or too large or too many of them, is damaged or
    encrypted, and where PyAV is not installed.
    """
    path = Path(path)
    try:
        if other := no_file(path.stat().st_mode):
            raise ImageError(f"{path}: {other}, not a video file")
        with path.open("rb", buffering=0) as file:
            kind = video_format(file.read(16))
            if kind is None:
                raise ImageError(f"{path}: not a video ({VIDEOS_READ} are read)")
            if find_spec("av") is None:
                raise ImageError(f"{path}: a video. Reading it needs pip install 'twin-dcal[video]'.")
            file.seek(0)
            decoded = decode_apart(
                _CHILD, [kind, MAX_FRAME_PIXELS, MAX_PIXELS], path, cpu_seconds=_CPU_SECONDS,
                wall_seconds=_WALL_SECONDS, file=file,
                advice="Save the part that shows the person anew, as an ordinary MP4.",
            )  # fmt: skip
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path}: cannot be opened ({error})") from None
    frames, at = [], 0
    while at < len(decoded):
        seconds, sharpness, height, width = _HEAD.unpack_from(decoded, at)
        at += _HEAD.size
        flat = np.frombuffer(decoded, np.uint8, 3 * height * width, at)
        frames.append(VideoFrame(seconds, sharpness, flat.reshape(height, width, 3)))
        at += flat.size
    return frames


class Spread:
    """The best of each equal part of a time whose length nobody knows: parts grow when there are too many.

    Args: num_parts: from so many to one less than twice as many are kept.
    """

    def __init__(self, num_parts: int) -> None:
        self._num_parts, self._step = num_parts, _FIRST_STEP
        self._best: dict[int, tuple[float, float, Any]] = {}

    def add(self, seconds: float, goodness: float, frame: Any) -> None:
        """Args: seconds: from the beginning."""
        self._keep(math.floor(seconds / self._step), (seconds, goodness, frame))
        while len(self._best) >= 2 * self._num_parts:
            self._step *= 2
            kept, self._best = self._best, {}
            for part, one in kept.items():
                self._keep(part // 2, one)

    def _keep(self, part: int, one: tuple[float, float, Any]) -> None:
        if part not in self._best or one[1] > self._best[part][1]:
            self._best[part] = one

    def best(self) -> list[tuple[float, float, Any]]:
        """Seconds, goodness and what was kept of each part, in order."""
        return [self._best[part] for part in sorted(self._best)]


def decode_in_child() -> None:
    """Of the child: a video from stdin; its reader, the pixels of a frame and those of all frames as arguments after
    the first; frames to stdout."""
    limit_cpu()
    av: Any = import_module("av")
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if not module.name.endswith("__main__"):
            import_module(module.name)  # what it would import when it is needed could not be opened then
    reformatter = av.video.reformatter.VideoReformatter()
    blank = av.VideoFrame(8, 8, "yuv420p")
    _sharpness(reformatter, blank)  # likewise, of numpy
    _scaled(reformatter, blank, 1.0)
    file, out = sys.stdin.buffer, sys.stdout.buffer
    _limit()
    try:
        kept = _decoded(av, reformatter, file, sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
        if not kept.best():
            refuse("no picture in it can be decoded. Restore the file, or save it anew as an ordinary MP4.")
        for seconds, goodness, (frame, ratio) in kept.best():
            pixels = _upright(frame, _scaled(reformatter, frame, ratio))
            out.write(_HEAD.pack(seconds, goodness, *pixels.shape[:2]))
            out.write(np.ascontiguousarray(pixels).data)
    except MemoryError:
        refuse("needs more memory to decode than a video is given. Save it anew as an ordinary MP4.")
    except Exception as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        refuse(f"truncated or damaged ({reason}). Restore the file.")


def _limit() -> None:
    """No more memory than a video is given, and nothing can be opened any more."""
    for limit, most in (("RLIMIT_AS", _MEMORY), ("RLIMIT_NOFILE", 0)):
        with contextlib.suppress(ImportError, ValueError, OSError, AttributeError):  # not on Windows
            resource: Any = import_module("resource")
            resource.setrlimit(getattr(resource, limit), (most, most))


def _decoded(
    av: Any, reformatter: Any, file: Any, reader: str, max_frame_pixels: int, max_pixels: int
) -> Spread:
    """The frames to be given, each with how much wider its pixels are than high."""
    options = {
        "format_whitelist": _READERS[reader], "codec_whitelist": ",".join(_DECODERS), "protocol_whitelist": "none",
    }  # fmt: skip
    kept = Spread(NUM_SPREAD)
    with av.open(file, format=reader, container_options=options, metadata_errors="replace") as container:
        stream = _pictures(container, max_frame_pixels)
        context = stream.codec_context
        context.thread_count, context.thread_type = 1, "NONE"
        context.options = {"max_pixels": str(max_frame_pixels), "err_detect": "explode"}
        num_packets = num_bad = num_pixels = 0
        first, last = None, -math.inf
        for packet in container.demux(stream):
            if packet.has_sidedata("encryption_info"):
                refuse("encrypted. Save it anew without protection.")
            num_packets += 1
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                num_bad += 1
                continue
            for frame in frames:
                _refuse_large(frame.width, frame.height, max_frame_pixels)
                num_pixels += frame.width * frame.height
                if num_pixels > max_pixels:
                    refuse(
                        f"longer than a video may be ({max_pixels:,} pixels in all frames, as in 5 minutes of "
                        "1920x1080). Save the part that shows the person."
                    )
                if frame.is_corrupt:
                    continue
                own = frame.time
                at = own if own is not None and own > last else max(last, 0.0) + _UNTIMED
                first, last = at if first is None else first, at
                kept.add(at - first, _sharpness(reformatter, frame), (frame, _pixel_ratio(stream)))
        if num_bad > _MOST_BAD * num_packets:
            told = f"{num_bad:,} of {plural(num_packets, 'part')}"
            refuse(f"truncated or damaged ({told} cannot be decoded). Restore the file.")
    return kept


def _pictures(container: Any, max_frame_pixels: int) -> Any:
    """The first stream of pictures that are no cover; refuses a file without one, or one that is not decoded."""
    streams = [each for each in container.streams.video if not _is_cover(each)]
    if not streams:
        refuse("no moving pictures in it, only sound or data.")
    stream = streams[0]
    context = stream.codec_context
    if context is None or context.name not in _DECODERS:
        name = "unknown" if context is None else context.name
        refuse(
            f"its pictures are coded as {name}, which is not read; perhaps it is encrypted. Save it anew as H.264."
        )
    _refuse_large(context.width, context.height, max_frame_pixels)
    return stream


def _is_cover(stream: Any) -> bool:
    return "attached_pic" in str(stream.disposition)


def _refuse_large(width: int, height: int, max_frame_pixels: int) -> None:
    if width * height > max_frame_pixels:
        refuse(f"frames of {width}x{height} have more than {max_frame_pixels:,} pixels. Scale it down first.")


def _pixel_ratio(stream: Any) -> float:
    """Width of a pixel over its height: not 1 in some recordings of television."""
    ratio = stream.sample_aspect_ratio
    return float(ratio) if ratio is not None and 0.25 <= ratio <= 4 else 1.0


def _sharpness(reformatter: Any, frame: Any) -> float:
    """Variance of the Laplacian of the brightness, of the frame at a width of 480 pixels."""
    width = min(_SHARPNESS_WIDTH, frame.width)
    height = max(1, round(frame.height * width / frame.width))
    grey = reformatter.reformat(frame, width, height, "gray").to_ndarray().astype(np.float32)
    if min(grey.shape) < 3:
        return 0.0
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(4 * grey[1:-1, 1:-1] - around))


def _scaled(reformatter: Any, frame: Any, ratio: float) -> NDArray[np.uint8]:
    """RGB (H, W, 3) with square pixels, at most `MAX_SIDE` a side."""
    width, height = frame.width * max(ratio, 1.0), frame.height / min(ratio, 1.0)
    by = min(1.0, MAX_SIDE / max(width, height))
    size = max(1, round(width * by)), max(1, round(height * by))
    return np.asarray(reformatter.reformat(frame, *size, "rgb24", interpolation="AREA").to_ndarray())


def _upright(frame: Any, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turned and mirrored as the file says.

    Source: libavutil/display.h: column p and row q of a frame are shown at column a·p + c·q and row b·p + d·q.
    """
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return pixels
    a, b, _, c, d = np.frombuffer(bytes(found), "=i4")[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a, d
    else:
        pixels, across, down = pixels.transpose(1, 0, 2), c, b
    return pixels[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
