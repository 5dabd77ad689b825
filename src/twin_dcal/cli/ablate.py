"""`dcal-ablate`: train combinations of branches with several seeds and compare them on the same test pairs."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from twin_dcal.config import dotted_keys
from twin_dcal.errors import ConfigError
from twin_dcal.presets import PRESETS

from .common import HIDDEN, Parser, run
from .run_config import read_run_config

CONFIG_KEYS = {
    "data_dir": "data.data_dir", "dataset_info": "data.dataset_info", "twin_pairs": "data.twin_pairs",
    "data_root": "data.data_root", "split_file": "data.split_file", "strict": "data.strict",
    "device": "runtime.device",
}  # fmt: skip


def parser() -> Parser:
    parser = Parser(
        keys=dotted_keys,
        prog="dcal-ablate",
        description="Train every combination of branches with every seed, evaluate each on the test split and compare: "
        "ablation.md, ablation.tex (booktabs), ablation.json and DET curves. Finished runs are not repeated.",
        epilog="Any key of the configuration can be given as --section.key VALUE. runtime.seed draws the split, which "
        "is the same for all runs.",
        examples=(
            "dcal-ablate --config single_gpu --data_dir FACES --branches sa sa+glca sa+pwca all --seeds 3",
            "dcal-ablate --config face --model.pretrained network.onnx --data_dir FACES --variants variants.json",
        ),
    )
    option = parser.option
    parser.group("what is compared")
    option(
        "config", metavar="NAME|FILE", default="default", help=f"preset ({', '.join(PRESETS)}) or JSON file"
    )
    option("config_file", metavar="FILE", help=HIDDEN)
    option(
        "branches", metavar="SA+…", nargs="+", default=["sa", "sa+glca", "sa+pwca", "all"],
        help="combinations of sa, glca and pwca, the first to compare with; all is sa+glca+pwca",
    )  # fmt: skip
    option(
        "variants", metavar="FILE",
        help='instead of --branches: JSON, names and what they change, {"untouched": {"training.num_epochs": 0}, …}',
    )  # fmt: skip
    option("seeds", type=int, metavar="N", default=3, help="train with seeds 0 to N - 1")
    parser.group("data")
    option("data_dir", metavar="DIR", help="train/val/test folders, person folders, or dataset_infor.json")
    option("dataset_info", metavar="FILE", help="dataset_infor.json: person id to image paths")
    option(
        "twin_pairs", metavar="FILE", help="pairs of person ids: twin_pairs_infor.json, .csv, .tsv or .txt"
    )
    option("data_root", metavar="DIR", help="where image paths of the JSON file are looked up")
    option("split_file", metavar="FILE", help="split.json of an earlier run")
    option(
        "strict",
        action="store_true",
        default=None,
        help="whatever would be left out is an error, and so are copies of one picture",
    )
    parser.group("runs and figures")
    option("output_dir", metavar="DIR", default="runs/ablation", help="a folder per run, tables and plots")
    option("overwrite", action="store_true", help="train all runs anew, finished ones too")
    option("max_unrelated", type=int, metavar="N", help="compare a random N of the unrelated pairs")
    option(
        "num_replicates",
        type=int,
        default=1000,
        help="0 leaves out intervals; any other number changes nothing",
    )
    option("device", help="auto, cpu, cuda, cuda:0")
    return parser


def body(arguments: Sequence[str] | None) -> int:
    options, dotted = parser().parse(arguments)
    for key, instead in (
        ("model.branches", "--branches"), ("runtime.output_dir", "--output_dir"),
    ):  # fmt: skip
        if key in dotted:
            raise ConfigError(f"--{key}: dcal-ablate sets it for every run; use {instead}")
    return _ablate(options, dotted)


def _ablate(options: argparse.Namespace, dotted: dict[str, object]) -> int:
    from twin_dcal.ablation.variants import read_variants, read_variants_file

    variants = read_variants_file(options.variants) if options.variants else read_variants(options.branches)
    config = read_run_config(options, CONFIG_KEYS, dotted)
    if not config.tracking.required:  # a preset's; every run's figures are in the tables
        config = config.override({"tracking.backend": "none"})
    if config.tracking.backend != "none":
        raise ConfigError(f"tracking.backend {config.tracking.backend}: dcal-ablate needs none")
    from twin_dcal.ablation.flow import Plan, ablate
    from twin_dcal.ablation.tables import markdown

    folder = Path(options.output_dir)
    summary = ablate(Plan(
        config, variants, options.seeds, folder, options.num_replicates, options.max_unrelated, options.overwrite,
    ))  # fmt: skip
    if summary is None:
        print("stopped early on request; the same command goes on")
        return 130
    print(markdown(summary))
    print(f"ablation: {folder / 'ablation.md'}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run(body, arguments)


if __name__ == "__main__":
    sys.exit(main())
