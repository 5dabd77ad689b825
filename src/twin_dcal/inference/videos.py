"""Videos among photographs: the best frames of one, which are then photographs like others. No torch here."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twin_dcal.data.video import VideoFrame, is_video, spread_frames
from twin_dcal.errors import ImageError
from twin_dcal.plural import plural
from twin_dcal.prepare.align import FaceChoice
from twin_dcal.prepare.quality import weight_of

from .pictures import Embedder, Picture

MAX_FRAMES = 5
"""Of a video: models have thresholds for so many photographs, and more of one recording add little."""


def as_photographs(
    embed: Embedder, images: Sequence[Any], name: str, face: FaceChoice, shared: bool
) -> tuple[list[Picture], list[str], tuple[str, ...]]:
    """Photographs of one person, in which each video has become its best frames; what messages call each, and warnings.

    Args: name: what messages call the side; face, shared: as in `Picture`. ImageError for a video that is not read, and
    for one of which no frame can be used.
    """
    pictures: list[Picture] = []
    names: list[str] = []
    told: list[str] = []
    for at, image in enumerate(images, start=1):
        if is_video(image):
            frames = _best_frames(embed, image, face, shared)
            pictures += frames
            names += [Path(frame.called).name for frame in frames]
            if len(frames) > 1:
                told.append(
                    f"{name}: frames of one video differ less than photographs do, for which threshold and error rates "
                    "are known"
                )
        else:
            called = name if len(images) == 1 else f"{name} photo {at}"
            pictures.append(Picture(image, face, called, shared))
            names.append(f"photo {at}")
    return pictures, names, tuple(dict.fromkeys(told))


def _best_frames(embed: Embedder, video: str | Path, face: FaceChoice, shared: bool) -> list[Picture]:
    """The best frame of each of five equal parts of a video's time, in order; none of a part without a face.

    The better one has the better face, where faces are looked for, else it is the sharper one.
    """
    frames = spread_frames(video)
    begin, length = frames[0].seconds, frames[-1].seconds - frames[0].seconds
    best: dict[int, tuple[tuple[bool, float], Picture]] = {}
    reasons = []
    for frame in frames:
        picture = Picture(frame.pixels, face, f"{video} at {frame.seconds:.2f} s", shared, video=True)
        try:
            goodness = _goodness(embed, picture, frame)
        except ImageError as error:
            reasons.append(str(error))
            continue
        part = int(MAX_FRAMES * (frame.seconds - begin) / length) if length else 0
        part = min(part, MAX_FRAMES - 1)  # the last frame ends the last part
        if part not in best or goodness > best[part][0]:
            best[part] = goodness, picture
    if not best:
        looked_at = plural(len(frames), "frame")
        raise ImageError(f"{video}: none of {looked_at} that were looked at can be used; first: {reasons[0]}")
    return [best[part][1] for part in sorted(best)]


def _goodness(embed: Embedder, picture: Picture, frame: VideoFrame) -> tuple[bool, float]:
    """Of two frames the greater is the better one. ImageError for one without the face."""
    face = embed.prepare(picture).seen.face
    quality = None if face is None else face.get("quality")
    return (False, frame.sharpness) if quality is None else (True, weight_of(quality))
