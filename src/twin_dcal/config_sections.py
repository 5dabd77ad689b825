"""The sections of a configuration: every key with its range, default and meaning. Nothing here imports torch."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationInfo,
    field_validator,
    model_validator,
)

from .image_size import MAX_IMAGE_SIZE, MAX_WIDTH, MIN_IMAGE_SIZE, ImageSize, image_size_of

Branch = Literal["sa", "glca", "pwca"]

MAX_BLOCKS = 256


_SIDE = Annotated[int, Field(ge=MIN_IMAGE_SIZE, le=MAX_IMAGE_SIZE)]
_SIDES = TypeAdapter(tuple[_SIDE, _SIDE])


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python's True is the number 1, so that pydantic would train for one epoch if it is asked for `true`."""
        assert info.field_name is not None
        annotation = cls.model_fields[info.field_name].annotation
        parts = value if isinstance(value, list | tuple) else (value,)
        if bool not in (annotation, *get_args(annotation)) and any(isinstance(part, bool) for part in parts):
            raise ValueError("takes neither true nor false")
        return value

    @field_validator("*")
    @classmethod
    def _printable(cls, value: Any) -> Any:
        if isinstance(value, str) and (odd := [letter for letter in value if ord(letter) < 32]):
            raise ValueError(
                f"holds {odd[0]!r}, as no name does; in JSON a backslash in text is written twice, \\\\"
            )
        return value


class ModelConfig(Section):
    """The network: any timm ViT (its own blocks) or any timm CNN (feature map + `num_blocks` of ours)."""

    backbone: str = Field("vit_base_patch16_224", max_length=200)
    """Which network: a name of timm, "onnx", or a layout of a face network (docs/face_networks.md)."""
    pretrained: bool | str = True
    """true: timm's weights (asks the network once); a path: that file, strictly; false: random."""
    init_from: str | None = None
    """A best_model.pth (or the folder of its run) to start from, instead of `pretrained`: of other people, on other
    data. The classifier of its people is left behind."""
    feature_dim: int | None = Field(None, gt=0, le=MAX_WIDTH)
    """Channels of a CNN's last feature map; null reads them from the backbone, a number is checked."""
    attention_dim: int | None = Field(768, gt=0, le=MAX_WIDTH)
    """Width of our blocks on a CNN; a ViT keeps its own."""
    num_heads: int = Field(12, gt=0, le=MAX_WIDTH)
    """Heads of our blocks on a CNN; a ViT keeps its own."""
    num_blocks: int = Field(4, ge=0, le=MAX_BLOCKS)
    """Self-attention blocks of ours on a CNN or a face network; a ViT keeps its own. 0 is a face network alone."""
    branches: tuple[Branch, ...] = ("sa", "glca", "pwca")
    """Attentions that are trained: "sa" always, "glca" and "pwca" as wished. PWCA takes part in training alone."""
    local_ratio: float = Field(0.1, gt=0, le=1)
    """R of docs/method.md: the share of patch tokens that become GLCA queries."""
    glca_pool: Literal["cls", "local"] = "cls"
    """GLCA's embedding: its CLS token (the paper), or the mean of CLS and the kept patches."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after projections and in the feed-forward layers."""
    drop_path: float = Field(0.1, ge=0, lt=1)
    """Stochastic depth of the last block; grows linearly from 0 at the first."""
    pwca_blocks: int | None = Field(None, gt=0, le=MAX_BLOCKS)
    """How many of the last self-attention blocks are pair-wise in training; null is all of them, as in the paper."""
    pwca_partner: Literal["random", "twin"] = "random"
    """PWCA's distractor: any other image of the batch (the paper), or one of the twin (AHAN)."""
    feature_strides: tuple[int, ...] = Field((8,), max_length=16)
    """Face networks: the feature maps that patch tokens come from, by their stride in pixels of the network's input."""
    frozen_stride: int = Field(0, ge=0, le=MAX_IMAGE_SIZE)
    """Face networks: stages whose maps have this stride or a smaller one keep their weights; 0 freezes none."""
    fusion: float | Literal["auto"] = "auto"
    """Face networks: share of the untouched network's cosine in a pair's score, between 0 and 1; "auto" chooses it on
    the validation pairs."""
    flip_average: bool = False
    """In use, embeddings are means over an image and its mirror image: twice the cost, fewer errors."""
    face_template: Literal["auto", "arcface112", "ours", "none"] = "auto"
    """Where a face network expects the face: "auto" is what its layout was trained on, "none" takes crops whole."""
    face_pixels: Literal["auto", "rgb/127.5", "rgb/128", "rgb/1", "bgr/127.5", "bgr/128", "bgr/1"] = "auto"
    """Channel order and scale of a face network's input: (pixel − 127.5) / 127.5 or / 128, or pixels as they are."""

    @field_validator("fusion")
    @classmethod
    def _share(cls, value: float | str) -> float | str:
        if isinstance(value, float | int) and not 0 <= value <= 1:
            raise ValueError(f'fusion {value} is a share: give a number from 0 to 1, or "auto"')
        return value

    @field_validator("branches")
    @classmethod
    def _sa_always(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "sa" not in value:
            raise ValueError("'sa' is the backbone itself and must be among the branches")
        if len(set(value)) != len(value):
            raise ValueError("a branch is named twice")
        return value

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.attention_dim is not None and self.attention_dim % self.num_heads:
            raise ValueError(
                f"attention_dim {self.attention_dim} is not a multiple of num_heads {self.num_heads}"
            )
        if not self.num_blocks and len(self.branches) > 1:
            raise ValueError(
                'num_blocks 0 is a face network alone, without attention: set branches to ["sa"]'
            )
        return self


class TrainingConfig(Section):
    batch_size: int = Field(32, ge=2)
    """Images of a batch over all processes: batch_size / images_per_person people with that many images each.
    Every process gets its part, with families whole."""
    images_per_person: int = Field(4, ge=2)
    """Images of each person in a batch; a person with fewer repeats some."""
    accumulation_steps: int = Field(1, ge=1)
    """Batches whose gradients are added up before the weights change."""
    num_epochs: int = Field(100, ge=0)
    """0 trains nothing: best_model.pth is the network as it came, with a threshold from the validation pairs."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum 0.9."""
    learning_rate: float = Field(3e-4, gt=0)
    """Highest rate of the new parts, reached after warm-up, before lr_reference_batch."""
    lr_reference_batch: int | None = Field(64, gt=0)
    """The rate is multiplied by (effective batch / this); null uses it as it is."""
    backbone_lr_factor: float = Field(1.0, ge=0)
    """Rate of the pretrained backbone relative to the new parts; 0 freezes it."""
    weight_decay: float = Field(0.01, ge=0)
    """Of matrices and kernels alone: not of biases, norms and tokens."""
    scheduler: Literal["cosine", "constant"] = "cosine"
    """What the rate does after warm-up: fall along a cosine to the last epoch, or stay."""
    warmup_epochs: float = Field(5.0, ge=0)
    """Epochs in which the rate rises to its highest value."""
    clip_norm: float | None = Field(1.0, gt=0)
    """Largest norm of a gradient, longer ones are scaled down; null clips nothing."""
    cached_views: int = Field(0, ge=0)
    """Face networks with frozen stages: so many augmented views of each training image go through these stages once
    and are kept, in half precision, the same for every seed; 0 keeps nothing and draws new views every epoch. With
    virtual twins each view has edits of its own, and an epoch is of one view."""
    validate_every: int = Field(1, ge=1)
    """Epochs between validations."""
    best_by: Literal["twin_eer", "mean_eer"] = "twin_eer"
    """What best_model.pth is best by: the EER against twins, or its mean with that against unrelated people, which
    is steadier while twins are still near chance."""
    replace_start: Literal["clearly_better", "better"] = "clearly_better"
    """Training that starts from a face network: whether best_model.pth stays that network until a model is better
    beyond the paired 95 % interval over validation families, or until one is better at all. With fewer than five
    families there is no interval, and the better one counts."""
    early_stopping_patience: int | None = Field(None, ge=1)
    """Validations without a better model before stopping; null never stops early."""
    max_skipped_batches: int = Field(10, ge=0)
    """Batches without a finite loss and gradient that a run leaves out before it stops."""

    @model_validator(mode="after")
    def _whole_people(self) -> Self:
        if self.batch_size % self.images_per_person or self.batch_size < 2 * self.images_per_person:
            raise ValueError(
                f"batch_size {self.batch_size} must be a multiple of images_per_person "
                f"{self.images_per_person} and hold at least 2 people"
            )
        return self


class LossConfig(Section):
    head: Literal["softmax", "cosface", "arcface", "pairs"] = "softmax"
    """Cross-entropy over people, by a linear layer or with a margin on cosines; "pairs" has no classifier and compares
    the batch's images with each other, which suits a network that tells people apart already (docs/training.md)."""
    softmax_over: Literal["all", "batch"] = "all"
    """People an image is told from by cross-entropy: all of the training set, or those of the batch, where the twin
    always is. "batch" turns a network that starts from nothing to twins much sooner (docs/results.md)."""
    scale: float = Field(30.0, gt=0)
    """Scale of the cosine logits (cosface, arcface, pairs)."""
    margin: float = Field(0.35, ge=0)
    """cosface, pairs: subtracted from the cosine; arcface: added to the angle, in radians."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the cross-entropy target that is spread over all people."""
    triplet_weight: float = Field(1.0, ge=0)
    """Weight of the twin-first triplet loss beside the head; 0 leaves it out."""
    triplet_margin: float = Field(0.3, gt=0)
    """Hinge margin on cosine distance, 1 − cosine."""
    strangers_weight: float = Field(0.0, ge=0)
    """Face networks: weight of the mean squared difference between cosines of unrelated images of a batch and those of
    the untouched network, which knows strangers from millions of people."""
    uncertainty_weighting: bool = True
    """Learned branch weights of docs/method.md; false takes half the plain sum (all w = 0, not learned)."""
    across_ranks: bool = True
    """Triplets and people of softmax_over "batch" are those of the global batch; false: of each process's part."""


class DataConfig(Section):
    data_dir: str | None = None
    """Folder of the data set: train/, val/, test/ or person folders (docs/data.md)."""
    dataset_info: str | None = None
    """A JSON file of person ids and their image paths, instead of folders."""
    twin_pairs: str | None = None
    """A list of pairs of person ids; null looks for one beside the data."""
    data_root: str | None = None
    """Folder under which image paths of a dataset_info file are looked up, by their longest matching suffix."""
    split_file: str | None = None
    """A `split.json` written by an earlier run: the same people in the same splits."""
    val_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of families for validation where the data set has no split of its own."""
    test_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of families for a split that the data set does not define itself."""
    image_size: ImageSize = 224
    """Pixels of what the network sees: a square's side, or [rows, columns]. Of every picture the largest central part
    of that shape is taken."""
    crop_template: Literal["auto", "ours", "arcface112", "none"] = "auto"
    """How faces lie in the crops, for face networks: as `dcal-prepare` places them ("ours"), on the ArcFace template,
    or in no known way ("none": crops are given whole). "auto" measures it on some of the training crops."""
    min_images: int = Field(2, ge=1)
    """People with fewer images are left out of training, and said so."""
    augmentation: bool = True
    """Whether training images are changed at random, as the keys below say."""
    horizontal_flip: bool = True
    """Augmentation mirrors one image in two."""
    min_crop_area: float = Field(0.7, gt=0, le=1)
    """Smallest share of a training image's area that augmentation keeps; 1 crops nothing."""
    color_jitter: float = Field(0.2, ge=0, lt=1)
    """Largest relative change of brightness, contrast and saturation by augmentation."""
    erase_probability: float = Field(0.25, ge=0, le=1)
    """Share of training images that get a small grey patch."""
    virtual_twins: Literal["off", "fixed", "fresh"] = "off"
    """Every training person as two, made by editing photographs while training: the hardest impostor of any data set.
    "fresh" edits anew each epoch, for losses that learn no classes; "fixed" keeps the edits of the first."""
    virtual_strength: float = Field(1.0, gt=0, le=3)
    """How much virtual twins are edited; see docs/edited_twins.md."""
    normalize: bool = True
    """With the mean and deviation the backbone was pretrained with; false feeds [0, 1]."""
    strict: bool = False
    """Anything that would be left out with a warning is an error, and so are copies of one picture."""

    @field_validator("image_size", mode="before")
    @classmethod
    def _sides(cls, value: Any) -> ImageSize:
        given = value if isinstance(value, list | tuple) else (value, value)
        try:
            return image_size_of(_SIDES.validate_python(given))
        except ValueError:  # ValidationError, or another number of sides
            raise ValueError(
                f"give pixels a side, or [rows, columns], from {MIN_IMAGE_SIZE} to {MAX_IMAGE_SIZE}"
            ) from None

    @model_validator(mode="after")
    def _people_left_to_train(self) -> Self:
        if self.val_fraction + self.test_fraction > 1:
            raise ValueError(
                f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction} leave no training set"
            )
        return self


class TrackingConfig(Section):
    backend: Literal["none", "mlflow", "wandb"] = "none"
    """Beside TensorBoard and metrics.jsonl, which are always written."""
    required: bool = True
    """false: where the tracker's package is not installed, the run says so in one line and goes on without it."""
    mlflow_uri: str | None = None
    """A server's http:// address or sqlite:///FILE. null: MLFLOW_TRACKING_URI, else the MLflow server on
    localhost:5000 if one answers, else `mlflow/mlflow.db` beside the run's folder."""
    mlflow_experiment: str | None = None
    """null: MLFLOW_EXPERIMENT_NAME, else "twin_dcal"."""
    wandb_project: str | None = None
    """null: "twin-dcal"."""
    wandb_entity: str | None = None
    """User or team of Weights & Biases; null is the one of the key."""


class RuntimeConfig(Section):
    seed: int = Field(0, ge=0, lt=2**63)
    """Of splits, batches, augmentation and new weights: the same seed, the same run on a CPU."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1"; "auto" is a GPU where there is one."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Half precision: "auto" is off on a CPU, on a GPU bf16 where the hardware has it, else fp16."""
    num_workers: int = Field(2, ge=0, le=1024)
    """Processes that read images; 0 reads them in the training process."""
    num_threads: int | None = Field(None, ge=1, le=4096)
    """Threads of torch on a CPU; null leaves them."""
    gradient_checkpointing: bool = False
    """Computes activations again in the backward pass: less memory, more time."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share a step: every one has all weights, or a part of weights and optimizer state."""
    output_dir: str | None = None
    """Where a run's files go, event files to its `logs/tensorboard`. null: checkpoints to `checkpoints`, event files to
    `logs/tensorboard`, both in the working folder."""
    cache_dir: str | None = None
    """Where training.cached_views keeps its files, so that runs share them; null is the output folder."""
    save_every_steps: int | None = Field(None, ge=1)
    """A checkpoint after so many optimizer steps; null goes by time alone."""
    save_every_minutes: float | None = Field(10.0, gt=0)
    """A checkpoint after so many minutes or save_every_steps, whichever comes first, and after every epoch."""
    keep_checkpoints: int = Field(2, ge=1)
    """Newest checkpoints kept as checkpoint_step_00000100.pth; last.pth is the newest. If one is damaged, the one
    before it is used."""
    max_hours: float | None = Field(None, gt=0)
    """Stop cleanly, with a checkpoint, before this time has passed since the start."""

    @property
    def run_folder(self) -> Path:
        """Where the run's checkpoints and figures go."""
        return Path(self.output_dir or "checkpoints")

    @property
    def tensorboard_folder(self) -> Path:
        """Where event files go, or the folders of several runs' event files."""
        logs = Path("logs", "tensorboard")
        return logs if self.output_dir is None else Path(self.output_dir) / logs
