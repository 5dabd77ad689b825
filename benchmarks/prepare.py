"""What aligning photographs costs and how exact it is, on real ones.

    OMP_NUM_THREADS=1 python benchmarks/prepare.py --photos PHOTOS --crops CROPS [--rounds 3]

PHOTOS holds PERSON/*.jpg, whole photographs; CROPS (optional) aligned crops. Rates are photos per CPU second of one
process on one thread, from the bytes of a file to the bytes of its crop: decoding, detection, alignment, quality,
hashes, JPEG. Each photo is scaled to squares of 1350 and of 250 pixels for it.

Exactness: eyes in the finished crops, seen by 16 looks that alignment does not use (8 sizes, as it is and mirrored,
their median), against the template; one look at 96 px against these 16, by YuNet's best anchor and by the mean of a
face's anchors; and by how much aligning a finished crop again would move it. Copies: whether the same photo saved again
in seven ways is told, and whether two photos are taken for one; last, correlations of whole crops for comparison.
"""

import argparse
import statistics
import tempfile
import time
from io import BytesIO
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from twin_dcal.data.decode import decode_pixels
from twin_dcal.inference.aligning import CROP_TOLERANCE
from twin_dcal.prepare.align import align_face
from twin_dcal.prepare.detector import FaceDetector
from twin_dcal.prepare.duplicates import compared_pixels, find_copies, likeness, perceptual_hash
from twin_dcal.prepare.geometry import TEMPLATE, displacement
from twin_dcal.prepare.photo import PhotoProcessor, process_photo
from twin_dcal.prepare.settings import PrepareConfig

TARGETS = {1350: 12, 250: 40}
SIZE = 224
LOOK = 96
LOOKS = (160, 192, 208, 224, 240, 256, 288, 320)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--crops", type=Path, help="a folder of aligned crops, to align again")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = FaceDetector()
    paths = sorted(options.photos.rglob("*.jpg"))
    print(f"OpenCV {cv2.__version__}, {len(paths)} photos")
    for side, target in TARGETS.items():
        rate(paths, side, target, options.rounds, detector)
    crops = exactness(paths, detector)
    stability([("photos", crops), *stored(options.crops)], detector)
    copies(crops, detector)


def rate(paths, side, target, rounds, detector):
    with tempfile.TemporaryDirectory() as folder:
        scaled = []
        for number, path in enumerate(paths[:28]):
            scaled.append(Path(folder) / f"{number}.jpg")
            Image.open(path).convert("RGB").resize((side, side)).save(scaled[-1], quality=92)
        rates = []
        for turn in range(rounds + 1):
            processor = PhotoProcessor(PrepareConfig(), Path(folder) / f"crops{turn}", detector)
            began = time.process_time()
            for path in scaled:
                process_photo(path, processor, {})
            rates.append(len(scaled) / (time.process_time() - began))
    middle, word = statistics.median(rates[1:]), "meets"
    if middle < target:
        word = "MISSES"
    spread = f"[{min(rates[1:]):.1f}, {max(rates[1:]):.1f}]"
    print(f"{side} x {side} px: {middle:.1f} photos per CPU second {spread}, {word} the target of {target}")


def exactness(paths, detector):
    """Prints how far eyes are from the template; crops by path."""
    crops, off = {}, []
    net = best_anchors(detector)
    looks = {"best anchor": [], "mean of anchors": []}
    for path in paths:
        found = align_face(decode_pixels(path.read_bytes(), path), SIZE, detector)
        if found is None:
            print(f"no face: {path.relative_to(path.parents[1])}")
            continue
        crops[path] = found.crop
        eyes = seen_eyes(net, found.crop)
        off.append((np.linalg.norm(eyes - TEMPLATE[:2], axis=1).max(), abs(found.quality.turn) < 0.15))
        small = cv2.resize(found.crop, (LOOK, LOOK), interpolation=cv2.INTER_AREA)
        one = {"best anchor": best_eyes(net, small), "mean of anchors": mean_eyes(detector, small)}
        for name, seen in one.items():
            if seen is not None:
                looks[name].append(np.linalg.norm(seen - eyes, axis=1).mean())
    away, frontal = np.array([each[0] for each in off]), np.array([each[1] for each in off])
    print(f"faces found: {len(crops)} of {len(paths)}; {frontal.sum()} nearly frontal (turn below 0.15)")
    for name, which in (("all", away), ("nearly frontal", away[frontal])):
        print(f"eyes to template, {name}: median {np.median(which):.2%}, 95 % {np.quantile(which, 0.95):.2%}, "
              f"largest {which.max():.2%} of the crop's side; {(which < 0.03).mean():.0%} within 3 %")  # fmt: skip
    print(f"eyes of one look at {LOOK} px off those of 16, on average: "
          + ", ".join(f"{name} {np.mean(values):.2%}" for name, values in looks.items()))  # fmt: skip
    return crops


def best_anchors(detector):
    """YuNet as OpenCV gives it: one anchor for each face."""
    return cv2.FaceDetectorYN.create(str(detector.path), "", (SIZE, SIZE), 0.5)


def seen_eyes(net, crop):
    """Eyes (2, 2) in a crop of side 1: the median over 16 looks."""
    looks = []
    for side in LOOKS:
        for mirrored in (False, True):
            eyes = best_eyes(net, cv2.resize(crop[:, ::-1] if mirrored else crop, (side, side)))
            if eyes is not None:  # None: a profile, at some sizes
                looks.append(np.column_stack([1 - eyes[:, 0], eyes[:, 1]])[::-1] if mirrored else eyes)
    return np.median(looks, axis=0)


def best_eyes(net, square):
    net.setInputSize(square.shape[:2])
    rows = net.detect(np.ascontiguousarray(square[..., ::-1]))[1]
    return None if rows is None else (rows[rows[:, 14].argmax(), 4:8].reshape(2, 2) + 0.5) / len(square)


def mean_eyes(detector, square):
    faces = detector.detect(square)
    return faces[0].landmarks[:2] / len(square) if faces else None


def stored(folder):
    if folder is None:
        return []
    paths = sorted(folder.rglob("*.jpg"))
    paths = paths[:: max(len(paths) // 200, 1)]
    return [("stored crops", {path: decode_pixels(path.read_bytes(), path) for path in paths})]


def stability(kinds, detector):
    for name, crops in kinds:
        forced, stored_off, left, left_in_use = [], [], 0, 0
        for crop in crops.values():
            again = align_face(crop, SIZE, detector)
            left += again is not None and not again.moved
            in_use = align_face(crop, SIZE, detector, tolerance=CROP_TOLERANCE)
            left_in_use += in_use is not None and not in_use.moved
            once = align_face(crop, SIZE, detector, tolerance=0)
            if once is None:
                continue
            stored_off.append(displacement(once.landmarks / len(crop)))
            twice = once if name == "photos" else align_face(once.crop, SIZE, detector, tolerance=0)
            forced.append(displacement(twice.landmarks / SIZE))
        moved = np.array(forced)
        print(f"aligning crops of {name} again: {left} of {len(crops)} are left alone, {left_in_use} by the engine; "
              f"if aligned all the same, they move by {moved.mean():.2%} on average, {(moved < 0.02).mean():.1%} by "
              f"less than 2 %; as they are, the farthest is off by {max(stored_off):.3f} of the side")  # fmt: skip


def again_in_seven_ways(image):
    width, height = image.size
    share = max(160 / min(width, height), 0.25)
    cut = (int(0.07 * width), int(0.05 * height), int(0.95 * width), int(0.97 * height))
    lighter = Image.fromarray((255 * (np.asarray(image) / 255) ** 0.7).astype(np.uint8))
    return {
        "JPEG quality 40": saved(image, 40),
        "160 px on the short side": saved(image.resize((int(width * share), int(height * share))), 80),
        "cropped by a tenth": saved(image.crop(cut), 85),
        "lighter (gamma 0.7)": lighter,
        "mirrored": saved(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), 85),
        "turned by 3 degrees": saved(image.rotate(3, Image.Resampling.BICUBIC), 85),
        "grey": image.convert("L").convert("RGB"),
    }


def saved(image, quality):
    data = BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Image.open(data).convert("RGB")


def copies(crops, detector):
    config = PrepareConfig().duplicates
    found, wholes = {}, []
    for path, crop in crops.items():
        for name, picture in again_in_seven_ways(Image.open(path).convert("RGB")).items():
            copy = align_face(np.asarray(picture), SIZE, detector)
            told = found.setdefault(name, [])
            told.append(copy is not None and is_copy(crop, copy.crop, config))
            if copy is not None:
                wholes.append(whole_correlation(crop, copy.crop))
    print("copies told: " + ", ".join(f"{name} {sum(told)} of {len(told)}" for name, told in found.items()))
    pairs = list(combinations(crops, 2))
    kinds = {"one person": [], "two people": []}
    for a, b in pairs:
        kinds["one person" if a.parent == b.parent else "two people"].append((crops[a], crops[b]))
    for name, found_pairs in kinds.items():
        wrong = sum(is_copy(*pair, config) for pair in found_pairs)
        print(f"two photos of {name} taken for one picture: {wrong} of {len(found_pairs)}")
    alike = max(likeness(*map(compared_pixels, pair)) for pair in kinds["one person"])
    whole = max(whole_correlation(*pair) for pair in kinds["one person"])
    below = np.mean(np.array(wholes) < whole)
    print(f"most alike two photos of one person: likeness {alike:.3f}, limit {config.min_correlation}; whole crops "
          f"correlate up to {whole:.3f}, more than {below:.0%} of the copies do")  # fmt: skip


def is_copy(one, other, config):
    both = (one, other)
    hashes, mirrored = (
        [perceptual_hash(view) for view in views] for views in (both, [v[:, ::-1] for v in both])
    )
    pixels = [compared_pixels(crop) for crop in both]
    return bool(find_copies(hashes, mirrored, pixels.__getitem__, config.max_bits, config.min_correlation))


def whole_correlation(one, other):
    small = [
        np.asarray(Image.fromarray(crop).convert("L").resize((64, 64), Image.Resampling.BOX))
        for crop in (one, other)
    ]
    return max(np.corrcoef(small[0].ravel(), view.ravel())[0, 1] for view in (small[1], small[1][:, ::-1]))


if __name__ == "__main__":
    main()
