"""The options of `dcal-evaluate`."""

from .common import HIDDEN, Parser, align_option, launch_options


def parser() -> Parser:
    parser = Parser(
        prog="dcal-evaluate",
        description="Error rates with intervals. Images are embedded once, pairs are scored from embeddings; each step "
        "can be entered with a file: --model and images, --embeddings, or --scores, of this or any other system.",
        examples=(
            "dcal-evaluate --model runs/twins/best_model.pth --data_dir FACES --visualize",
            "dcal-evaluate --compare runs/twins/evaluation runs/other/evaluation --visualize",
        ),
    )
    _system_options(parser)
    _data_options(parser)
    _threshold_options(parser)
    _output_options(parser)
    launch_options(parser)
    return parser


def _system_options(parser: Parser) -> None:
    option = parser.option
    parser.group("what is judged: one of these")
    option("model", metavar="FILE", help="best_model.pth of a run")
    option("embeddings", metavar="FILE", help="embeddings.npz: vectors and image paths, of any system")
    option("scores", metavar="FILE", help="scores.csv or .parquet: img1, img2, kind or label, score")
    option(
        "compare", metavar="RUN", nargs="+",
        help="evaluation folders, run folders, embeddings or scores files; differences to the first",
    )  # fmt: skip
    option(
        "fuse", metavar="RUN", nargs="+",
        help="with --compare: also their fusion by logistic regression, set on these embeddings or scores of the same "
        "systems on validation pairs, in the same order",
    )  # fmt: skip
    option("config", metavar="NAME|FILE", help=HIDDEN)
    parser.group("with --model")
    option(
        "feature_type", choices=["combined", "sa", "glca"], default="combined",
        help="embedding to compare; the stored threshold is for combined",
    )  # fmt: skip
    option("compare_features", action="store_true", help="sa, glca and combined side by side")
    option("benchmark_speed", action="store_true", help="images a second and time per pair on this device")
    option("explain", action="store_true", help="how faithful explanations are; overlays in report.html")
    option("analyze_attention", action="store_true", dest="explain", help=HIDDEN)
    option("explain_pairs", type=int, default=40, metavar="N", help="pairs that --explain looks at")
    option(
        "explain_method", choices=["combined", "occlusion", "gradients"], default="combined",
        help="what --explain draws; all are measured",
    )  # fmt: skip
    align_option(parser, "never")
    option("batch_size", type=int, default=32, help="images embedded at once")
    option("num_workers", type=int, default=2, help="processes that load images")
    option("num_threads", type=int, help="threads of torch on a CPU")
    option("device", default="auto", help="auto, cpu, cuda, cuda:0")


def _data_options(parser: Parser) -> None:
    option = parser.option
    parser.group("data")
    option("test_data", metavar="PATH", help="pairs file (.json, .txt, .csv), folder, or dataset_infor.json")
    option(
        "data_dir", metavar="DIR",
        help="data set folder: its test split is evaluated, its val split tunes; with a pairs or scores file, tells "
        "whose images they are",
    )  # fmt: skip
    option(
        "dataset_info", metavar="FILE",
        help="dataset_infor.json; with a pairs or scores file, tells whose images they are",
    )  # fmt: skip
    option(
        "twin_pairs",
        metavar="FILE",
        help="pairs of person ids (JSON or a table), where not beside the data",
    )
    option(
        "metadata", metavar="FILE",
        help="table of zygosity, sex, age, group, session, date, pose, quality; metadata.csv beside the data is found",
    )  # fmt: skip
    option("data_root", metavar="DIR", help="where image paths of the files are looked up")
    option(
        "strict",
        action="store_true",
        help="whatever would be left out is an error, and so are copies of one picture",
    )
    option("max_unrelated", type=int, metavar="N", help="compare a random N of the unrelated pairs")
    option(
        "max_images_per_person", type=int, metavar="N",
        help="compare at most N images of each person, chosen by --seed and the image's name",
    )  # fmt: skip
    option(
        "weights", choices=["pairs", "people"], default="pairs",
        help="what counts the same in rates: every pair, or every person in each kind of pair",
    )  # fmt: skip
    option(
        "folds",
        type=int,
        default=0,
        metavar="K",
        help="also K-fold figures, folds by family unless a list has its own",
    )
    option(
        "identification", choices=["first", "mean"],
        help="also search a gallery of everybody, enrolled with their first image or the mean of their images",
    )  # fmt: skip
    option(
        "templates", metavar="N|N-M|FILE",
        help="compare templates instead of images: N images (or a number from N to M) of a person taken as one, dealt "
        "by --seed, or as a table template,person,image says",
    )  # fmt: skip
    option(
        "num_replicates",
        type=int,
        default=1000,
        help="0 leaves out intervals; any other number changes nothing",
    )
    option("seed", type=int, default=0, help="of samples and folds")


def _threshold_options(parser: Parser) -> None:
    option = parser.option
    parser.group("threshold")
    option("threshold", type=float, help="decide at this score instead of the stored threshold")
    option(
        "threshold_probability", type=float, metavar="P",
        help="decide at the score with this probability, by the calibration stored with a model or embeddings",
    )  # fmt: skip
    option(
        "optimize_threshold", action="store_true",
        help="choose threshold and calibration on the validation data; with --val_data alone that is all that is done",
    )  # fmt: skip
    option("val_data", metavar="PATH", help="like --test_data, for --optimize_threshold")
    option(
        "threshold_metric", metavar="METRIC",
        help="eer (the default), accuracy, f1, or a rate such as far=1e-3; also of folds, those of a list by accuracy",
    )  # fmt: skip
    option("save", action="store_true", help="write the chosen threshold and calibration into the checkpoint")


def _output_options(parser: Parser) -> None:
    option = parser.option
    parser.group("output")
    option("output_dir", metavar="DIR", default="results/evaluation", help="evaluation_report.json goes here")
    option(
        "tracking", choices=["auto", "mlflow", "wandb", "none"], default="auto",
        help="a run of its own below the model's training run: auto, in MLflow if that is kept on this machine; mlflow "
        "or wandb, wherever it is",
    )  # fmt: skip
    option("save_scores", metavar="FILE", help="write every pair and its score, .csv or .parquet")
    option("save_embeddings", metavar="FILE", help="instead of embeddings.npz in --output_dir")
    option("visualize", action="store_true", help="write report.html and plots")
    option("no_images", action="store_true", help="no image and no path in report.html")
    option("blur_images", action="store_true", help="faces in report.html and examples beyond recognition")
    option("save_examples", action="store_true", help="write the worst pairs as JPEGs into examples/")
    option("num_examples", type=int, default=10, help="pairs of each kind of error for --save_examples")
