"""What do 10 million and 1 billion images cost? Calculated from CPU time per image, measured here with one thread.

    OMP_NUM_THREADS=1 python benchmarks/scale.py --network mobilefacenet_ms1m.onnx --crops FACES/test --photos PHOTOS

Prints for three networks (the smallest there is, a face network, ViT-S/16; untrained heads, whose time is the same) the
CPU milliseconds of reading a crop and of its features, the best of --rounds, since other programs make the rest slower;
and of finding and aligning the face of a photograph. Then, for each number of images: core-hours (images x seconds /
3600), bytes of the features, a search of all and the build of a FAISS index (IVF), and what the command itself holds in
memory (measured bytes of a path x images).
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from twin_dcal import TwinInferenceEngine
from twin_dcal.checkpoint import save_model
from twin_dcal.config import TwinVerificationConfig
from twin_dcal.extraction.listing import images_below
from twin_dcal.extraction.loading import read_or_reason
from twin_dcal.extraction.parts import reading
from twin_dcal.models.dcal import DCALVerificationModel

BATCH = 32
BUILT, WIDTH = 50_000, 384
"""Features of the index that is built and searched, and numbers of each: those of MobileFaceNet here."""
SIZES = {"10 million": 10**7, "1 billion": 10**9}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network", required=True, help="a face network's ONNX file")
    parser.add_argument("--crops", required=True, help="folder of aligned crops")
    parser.add_argument("--photos", required=True, help="folder of photographs")
    parser.add_argument("--number", type=int, default=96, help="images of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    crops = images_below(options.crops)[: options.number]
    photos = images_below(options.photos)[: options.number]
    aligned = 0.0
    print(
        "| network | reading a crop, ms | features, ms | crops/s and core | numbers |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for name, values in models(options.network, folder).items():
            path = untrained(Path(folder) / f"{len(name)}.pth", values)
            engine = TwinInferenceEngine(path, "cpu", align="never")
            read_s, pixels = best(lambda: read(engine, crops), options.rounds)  # noqa: B023
            embed_s, features = best(lambda: embed(engine, pixels), options.rounds)  # noqa: B023
            each, width = (read_s + embed_s) / len(pixels), features.shape[1]
            print(f"| {name} | {1000 * read_s / len(pixels):.2f} | {1000 * embed_s / len(pixels):.1f} | "
                  f"{1 / each:.0f} | {width} |")  # fmt: skip
            for called, number in SIZES.items():
                print(
                    f"    {called}: {number * each / 3600:,.0f} core-hours; {number * width * 4 / 1e9:,.0f} GB"
                )
            if not aligned:
                looking = TwinInferenceEngine(path, "cpu", align="always")
                aligned = best(lambda: read(looking, photos), options.rounds)[0] / len(photos)  # noqa: B023
    exact_bytes_s, build_flops_s = searching()
    print(
        f"a search of all: {exact_bytes_s / 1e9:.1f} GB/s; index: {build_flops_s / 1e9:.1f} GFLOP/s and core"
    )
    for called, number in SIZES.items():
        print(f"    {called}, {WIDTH} numbers: {number * WIDTH * 4 / exact_bytes_s:,.1f} core-seconds a search; "
              f"build {build_flops(number) / build_flops_s / 3600:,.0f} core-hours")  # fmt: skip
    held = sum(sys.getsizeof(name) + 8 for name in crops) / len(crops)
    print(f"finding and aligning a face: {1000 * aligned:.1f} ms a photograph more")
    for called, number in SIZES.items():
        print(
            f"    {called}: {number * aligned / 3600:,.0f} core-hours; paths in memory {number * held / 1e9:,.0f} GB"
        )


def searching() -> tuple[float, float]:
    """Bytes of features that one search of all goes through in a CPU second, and operations of an IVF index's build."""
    import faiss

    rng = np.random.default_rng(0)
    features = rng.normal(size=(BUILT, WIDTH)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    search_s, _ = best(lambda: features @ features[0], 5)
    began = time.process_time()
    index = faiss.index_factory(WIDTH, f"IVF{lists_of(BUILT)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(features)
    index.add(features)
    return features.nbytes / search_s, build_flops(BUILT) / (time.process_time() - began)


def lists_of(number: int) -> int:
    return round(4 * number**0.5)


def build_flops(number: int) -> float:
    """k-means over up to 256 features of each list, 10 times, then the nearest list of each feature."""
    lists = lists_of(number)
    return 2 * WIDTH * lists * (10 * min(256 * lists, number) + number)


def models(network: str, folder: str) -> dict[str, dict[str, object]]:
    data = {"data.data_dir": folder}
    face = {"model.pretrained": network, "model.face_pixels": "rgb/128", "data.crop_template": "ours"}
    plain = {"model.pretrained": False}
    return {
        "test_vit, 32 px": plain | data | {"model.backbone": "test_vit", "data.image_size": 32},
        "MobileFaceNet, preset face": face | data,
        "ViT-S/16, 224 px": plain
        | data
        | {"model.backbone": "vit_small_patch16_224", "data.image_size": 224},
    }


def untrained(path: Path, values: dict[str, object]) -> Path:
    preset = "face" if isinstance(values["model.pretrained"], str) else "default"
    config = TwinVerificationConfig.preset(preset).override(values)
    save_model(path, DCALVerificationModel.from_config(config), config)
    return path


def best(do, rounds):
    """CPU seconds of the fastest round, and what it gave."""
    spent = []
    for _ in range(1 + rounds):
        began = time.process_time()
        value = do()
        spent.append(time.process_time() - began)
    return min(spent[1:]), value


def read(engine, names):
    prepare = reading(engine)
    found = [read_or_reason(prepare, name) for name in names]
    return [one for one in found if not isinstance(one, str)]


def embed(engine, pixels):
    return np.concatenate(
        [engine.backend.embed(np.stack(pixels[at : at + BATCH])) for at in range(0, len(pixels), BATCH)]
    )


if __name__ == "__main__":
    main()
