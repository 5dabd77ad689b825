"""AdaFace's names for the tensors of an improved residual network.

Layout: github.com/mk-minchul/AdaFace, net.py; its checkpoints put `model.` before each name and add the training
head. CVLface (github.com/mk-minchul/CVLface, models/iresnet/model.py) has the same layout behind `net.`.
"""

from collections.abc import Sequence

_UNIT = {"bn1": "0", "conv1": "1", "bn2": "2", "prelu": "3", "conv2": "4", "bn3": "5"}
_HEAD = {"norm": "0", "fc": "3", "features": "4"}


def public_name(key: str, depths: Sequence[int]) -> str:
    """The name in an AdaFace file of one of `iresnet.IResNet`'s tensors; `depths` are the units of each stage."""
    first, _, rest = key.partition(".")
    if first == "head":
        part, _, leaf = rest.partition(".")
        return f"output_layer.{_HEAD[part]}.{leaf}"
    stage, part, index, leaf = rest.split(".", 3)
    if part == "stem":
        return f"input_layer.{index}.{leaf}"
    unit = f"body.{sum(depths[: int(stage)]) + int(index)}"
    layer, _, leaf = leaf.partition(".")
    return (
        f"{unit}.shortcut_layer.{leaf}" if layer == "shortcut" else f"{unit}.res_layer.{_UNIT[layer]}.{leaf}"
    )
