"""`dcal-export`: a checkpoint as one ONNX file, checked against torch before it is written."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from twin_dcal.errors import ConfigError
from twin_dcal.plural import plural

from .common import Parser, run
from .exits import tell

if TYPE_CHECKING:
    from twin_dcal.export.flow import Exported


def parser() -> Parser:
    parser = Parser(
        prog="dcal-export",
        description="One ONNX file that TwinInferenceEngine runs without torch. It is written only if its features are "
        "those of the checkpoint; --quantize int8 only if twins are told apart as well on --val_data.",
        examples=(
            "dcal-export --model runs/twins/best_model.pth --val_data FACES",
            "dcal-export --model runs/twins/best_model.pth --quantize int8 --val_data FACES --output twins.onnx",
        ),
    )
    option = parser.option
    parser.group("the model")
    option("model", metavar="FILE", required=True, help="best_model.pth of a run, or the run's folder")
    option("format", choices=["onnx"], default="onnx", help="of the written file")
    option("quantize", choices=["none", "int8"], default="none", help="8-bit weights of matrix products")
    option("output", metavar="FILE", help="default: beside the model, as .onnx or .int8.onnx")
    option("opset", type=int, default=20, help="version of the ONNX operators, 18 to 24")
    parser.group("faces to check it on")
    option("images", metavar="DIR", help="check on faces of this folder")
    option(
        "val_data", metavar="PATH", help="check on, and judge int8 by, a data set's val split or a pairs file"
    )
    option("dataset_info", metavar="FILE", help="with a pairs file, tells whose images they are")
    option("twin_pairs", metavar="FILE", help="pairs of person ids of --val_data: .json, .csv, .tsv or .txt")
    option("data_root", metavar="DIR", help="where image paths of the files are looked up")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options = parser().parse_options(arguments)
    _check(options)
    from twin_dcal.evaluation.inputs import DataFiles
    from twin_dcal.export.flow import export_model
    from twin_dcal.extraction.listing import images_below
    from twin_dcal.inference.backend import checkpoint_in

    model = checkpoint_in(options.model)
    suffix = ".int8.onnx" if options.quantize == "int8" else ".onnx"
    output = Path(options.output) if options.output else model.with_suffix(suffix)
    exported = export_model(
        model, output, quantize=options.quantize, opset=options.opset,
        images=images_below(options.images) if options.images else (), val_data=options.val_data,
        files=DataFiles(options.dataset_info, options.twin_pairs, options.data_root),
    )  # fmt: skip
    _tell(exported)
    return 0


def _check(options: argparse.Namespace) -> None:
    """ConfigError for options that do not go together."""
    if options.quantize == "int8" and not options.val_data:
        raise ConfigError(
            "--quantize int8 needs --val_data: it is written only where twins are told apart as well as before"
        )
    if options.output and Path(options.output).suffix.lower() != ".onnx":
        raise ConfigError(f"--output {options.output}: name a file that ends in .onnx")
    if options.output and Path(options.output).is_dir():
        raise ConfigError(f"--output {options.output} is a folder; name a file")


def _tell(exported: "Exported") -> None:
    found, auc = exported.difference, exported.auc
    print(
        f"checked on {found.faces}: largest difference to torch {found.max_difference:.1e}, "
        f"smallest cosine {found.min_cosine:.7f}"
    )
    if auc is not None:
        within = "" if auc.low is None else f", 95 % interval [{auc.low:+.4f}, {auc.high:+.4f}]"
        print(
            f"twin AUC on {auc.data}: float32 {auc.before:.4f}, int8 {auc.after:.4f} (change {-auc.drop:+.4f}{within}; "
            f"{auc.num_genuine:,} genuine and {plural(auc.num_twin, 'twin pair')}, "
            f"{plural(auc.num_families, 'family', 'families')})"
        )
        print(f"smallest cosine of an image's float32 and int8 features: {auc.min_cosine:.4f}")
        for name, (before, after) in auc.rates.items():
            print(f"{name.upper()} at the stored threshold: float32 {before:.4f}, int8 {after:.4f}")
    print(f"{exported.path}: {exported.num_bytes / 1e6:.1f} MB, sha256 {exported.sha256}")
    for warning in exported.warnings:
        tell(f"warning: {warning}")


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
