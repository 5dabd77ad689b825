"""What does a SA+GLCA embedding cost, against the plain timm backbone?

OMP_NUM_THREADS=1 python benchmarks/inference.py [--device cuda]
"""

from functools import partial

import measure
import timm
import torch

from twin_dcal.models.dcal import DCALVerificationModel

TARGET = 1.10
VARIANTS = {"plain": None, "sa": "cls", "sa+glca": "cls", "sa+glca-local": "local"}


def build(name, options, device):
    """A closure that embeds a fixed random batch."""
    torch.manual_seed(0)
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size, device=device)
    if VARIANTS[name] is None:
        model = timm.create_model(options.backbone, num_classes=0, img_size=options.image_size)
        forward = model.to(device).eval()
    else:
        model = (
            DCALVerificationModel(options.backbone, image_size=options.image_size, glca_pool=VARIANTS[name])
            .to(device)
            .eval()
        )
        forward = partial(model.embed, feature_type="sa" if name == "sa" else "combined")

    @torch.inference_mode()
    def step():
        return forward(images)

    return step


def main():
    options = measure.parser(__doc__.splitlines()[0]).parse_args()
    measured = measure.compare(__file__, VARIANTS, build, options)
    if measured is None:
        return
    times, memory = measured
    for name in list(VARIANTS)[1:]:
        middle, low, high = measure.ratio(times, name, "plain")
        print(measure.verdict(f"{name}: time", middle, TARGET, f"[{low:.2f}, {high:.2f}]"))
        print(f"{name + ': memory':<28} {memory[name] / memory['plain']:5.2f}x")


if __name__ == "__main__":
    main()
