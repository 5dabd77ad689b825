"""How fast a model embeds and compares on this device; decoding of files left out."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from twin_dcal.checkpoint import LoadedModel
from twin_dcal.data.images import read_image
from twin_dcal.data.transforms import eval_transform
from twin_dcal.models.dcal import FeatureType

MIN_SECONDS = 1.0
MIN_RUNS = 5


@torch.inference_mode()
def measure_speed(
    loaded: LoadedModel, names: Sequence[str], feature_type: FeatureType, batch_size: int
) -> dict[str, Any]:
    """Images a second in batches, and milliseconds for one pair: two images to one cosine. Medians after a warm-up.

    Args: names: image files; the first `batch_size` are used, again and again.
    """
    device = next(loaded.model.parameters()).device
    transform = eval_transform(loaded.preprocessing.image_size)
    chosen = [names[row % len(names)] for row in range(max(2, batch_size))]
    decoded = {name: transform(read_image(Path(name))) for name in set(chosen)}
    images = torch.stack([decoded[name] for name in chosen]).to(device)

    def embed(these: Tensor) -> Tensor:
        return loaded.model.embed(loaded.preprocessing.normalize(these), feature_type)

    batch, runs = _median_seconds(lambda: embed(images), device)
    pair, _ = _median_seconds(
        lambda: float(embed(images[:2]).prod(0).sum()), device
    )  # unit rows: their cosine
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "num_threads": torch.get_num_threads(),
        "batch_size": len(images),
        "images_per_second": len(images) / batch,
        "ms_per_pair": 1000 * pair,
        "num_runs": runs,
        "feature_type": feature_type,
    }


def _median_seconds(step: Callable[[], object], device: torch.device) -> tuple[float, int]:
    step()
    taken: list[float] = []
    while len(taken) < MIN_RUNS or sum(taken) < MIN_SECONDS:
        _wait(device)
        begin = time.perf_counter()
        step()
        _wait(device)
        taken.append(time.perf_counter() - begin)
    return median(taken), len(taken)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
