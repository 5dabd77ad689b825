"""`dcal-extract`: features of a folder of pictures, neighbours, clusters and plots."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError
from twin_dcal.plural import plural

from .common import HIDDEN, Parser, align_option, check_launch, launch_options, run
from .exits import tell

if TYPE_CHECKING:
    from twin_dcal.extraction.beside import Thumbnails
    from twin_dcal.extraction.extract import Extraction
    from twin_dcal.inference.engine import TwinInferenceEngine

NUM_LISTED = 5


def parser() -> Parser:
    parser = Parser(
        prog="dcal-extract",
        description="One feature vector per face, to an .npz file. Damaged images are listed and left out; an "
        "interrupted run goes on where it was. Features are biometric data: files are readable by their owner only.",
        examples=(
            "dcal-extract --model runs/twins/best_model.pth --images_dir FACES/test --output features.npz",
            "dcal-extract --model runs/twins/best_model.pth --images_list list.txt --top_k_similar 5",
        ),
    )
    option = parser.option
    parser.group("model and pictures")
    option("model", metavar="FILE", required=True, help="best_model.pth of a run, or an exported .onnx")
    option("images_dir", metavar="DIR", help="every image below this folder")
    option(
        "images_list",
        metavar="FILE",
        help="text file of image paths, or column image of a .csv, .tsv or .parquet",
    )
    option(
        "image_extensions",
        nargs="+",
        metavar="EXT",
        help="of --images_dir, such as .jpg .png; default: all read",
    )
    option(
        "feature_type", choices=["combined", "sa", "glca"], default="combined",
        help="combined is what decisions are made on",
    )  # fmt: skip
    align_option(parser)
    option("strict", action="store_true", help="a picture that cannot be used is an error; else it is listed")
    parser.group("output")
    option("output", metavar="FILE", default="features.npz", help="the features; other files go beside it")
    option("output_dir", metavar="DIR", help="folder for a relative --output and the files beside it")
    option(
        "shard_size",
        type=int,
        default=100_000,
        metavar="N",
        help="images per file; more are written as shards",
    )
    option("save_individual", action="store_true", help="also one .npy per image, under individual/")
    option("similarity_matrix", action="store_true", help="all similarities, to similarity_matrix.npz")
    option("top_k_similar", type=int, metavar="K", help="each image's K most similar, to top_k_similar.json")
    option("cluster_features", action="store_true", help="groups at the model's threshold, to clusters.csv")
    option(
        "clusters_page", action="store_true",
        help="the same, and as a page, clusters.html: first where twins may be mixed up, then all groups",
    )  # fmt: skip
    option("no_images", action="store_true", help="no thumbnails in clusters.html")
    option("blur_images", action="store_true", help="faces in clusters.html beyond recognition")
    option("visualize_features", action="store_true", help="features_pca.png and features_tsne.png")
    parser.group("computing")
    option("batch_size", type=int, default=32, help="images through the network at once")
    option("num_workers", type=int, default=2, help="processes that read images; with --ray, for each GPU")
    option("device", default="auto", help="auto, cpu, cuda, cuda:0")
    option("config", metavar="NAME|FILE", help=HIDDEN)
    launch_options(parser)
    option(
        "ray", metavar="auto|HOST:PORT",
        help="compute on a Ray cluster: that of this address, or (auto) of RAY_ADDRESS or of this machine, which is "
        "started where none runs (extra ray); GPUs are used where there are any",
    )  # fmt: skip
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)
    _check(options)
    options.cluster_features |= options.clusters_page
    check_launch(options)
    from twin_dcal.distributed import entered_by_main, launch, process_group
    from twin_dcal.extraction import analysis, listing
    from twin_dcal.extraction.extract import writing
    from twin_dcal.inference.engine import TwinInferenceEngine

    if options.ray and launch().is_launched:
        raise ConfigError(
            "--ray: a launcher (torchrun) has started this process; Ray starts its own: use one of them"
        )
    images = (
        listing.images_listed(options.images_list)
        if options.images_list
        else listing.images_below(options.images_dir, listing.parse_extensions(options.image_extensions))
    )
    if options.similarity_matrix:
        analysis.check_matrix(len(images))
    if options.cluster_features:
        analysis.check_grouped(len(images))
    engine = TwinInferenceEngine(options.model, options.device, align=options.align)
    engine.surface = "command"
    if options.cluster_features and options.feature_type != "combined":
        raise ConfigError(
            "--cluster_features: the threshold that groups part at is of the combined feature; leave out "
            f"--feature_type {options.feature_type}"
        )
    if options.cluster_features and engine.source.threshold is None:
        raise ConfigError(
            "--cluster_features: the model has no threshold to group at; store one with dcal-evaluate "
            "--optimize_threshold --save"
        )
    output = Path(options.output_dir or "") / options.output
    with process_group("cpu"), entered_by_main(writing(output)):  # only files and their names are shared
        _extract(options, engine, images, output)
    return 0


def _extract(
    options: argparse.Namespace, engine: "TwinInferenceEngine", images: Sequence[str], output: Path
) -> None:
    """Write the features; rank 0 also what lies beside them."""
    from twin_dcal.distributed import is_main
    from twin_dcal.extraction.beside import Wanted, write_beside
    from twin_dcal.extraction.extract import extract
    from twin_dcal.extraction.on_ray import OnRay
    from twin_dcal.model_file.provenance import training_warnings

    done = extract(
        engine, images, output, feature_type=options.feature_type, batch_size=options.batch_size,
        num_workers=options.num_workers, shard_size=options.shard_size,
        on_error="raise" if options.strict else "entry",
        ray=OnRay(options.ray, options.device) if options.ray else None,
    )  # fmt: skip
    if not is_main():
        return
    _list_failures(done, output)
    wanted = Wanted(
        similarity_matrix=options.similarity_matrix, top_k=options.top_k_similar,
        cluster_at=engine.threshold if options.cluster_features else None, clusters_page=_thumbnails(options),
        left_out=[reason for _, reason in done.failed],
        individual=options.save_individual, plots=options.visualize_features,
        fusion=engine.source.fusion if options.feature_type == "combined" else None,
    )  # fmt: skip
    written = write_beside(done.files, wanted)
    print(f"{plural(done.num_images, 'feature')}: {_few(done.files)}")
    for path in written:
        print(path)
    for text in training_warnings(engine.source.training):
        tell(f"warning: {text}")


def _check(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    if (options.images_dir is None) == (options.images_list is None):
        raise ConfigError("give --images_dir or --images_list")
    if (options.no_images or options.blur_images) and not options.clusters_page:
        raise ConfigError("--no_images and --blur_images go with --clusters_page")
    if options.no_images and options.blur_images:
        raise ConfigError("--no_images and --blur_images exclude each other; give one")
    if options.images_list and options.image_extensions:
        raise ConfigError("--image_extensions goes with --images_dir")
    if options.ray and options.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"--device {options.device}: Ray deals out the GPUs; with --ray use auto, cpu or cuda"
        )
    for name, least in (("batch_size", 1), ("num_workers", 0), ("shard_size", 1), ("top_k_similar", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name} must be at least {least}")


def _thumbnails(options: argparse.Namespace) -> "Thumbnails | None":
    """What the page of groups shows of the pictures; None without a page."""
    if not options.clusters_page:
        return None
    return "none" if options.no_images else "blurred" if options.blur_images else "images"


def _list_failures(done: "Extraction", output: Path) -> None:
    """Name what was left out: the first few on the terminal, all in a file."""
    from twin_dcal.files import write_text

    listed = output.with_name(f"{output.stem}.failed.txt")
    if not done.failed:
        listed.unlink(missing_ok=True)  # of an earlier run
        return
    write_text(listed, "".join(f"{reason}\n" for _, reason in done.failed))
    for _, reason in done.failed[:NUM_LISTED]:
        tell(f"left out: {reason}")
    tell(f"left out {plural(len(done.failed), 'image')}; all: {listed}")


def _few(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} … {paths[-1].name}"


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
