"""What does a SA+GLCA+PWCA training step cost, against plain training of the same timm backbone?

    OMP_NUM_THREADS=1 python benchmarks/train_step.py [--device cuda]

A step is forward, loss, backward and AdamW. Plain: timm's own model with its classifier and cross-entropy.
Memory is the peak of three steps over the built model, gradients and optimizer state included.
"""

import measure
import timm
import torch
import torch.nn.functional as F

from twin_dcal.config import LossConfig
from twin_dcal.losses import DCALLoss
from twin_dcal.models.dcal import DCALVerificationModel

NUM_PEOPLE = 178
TIME_TARGET, MEMORY_TARGET = 2.2, 2.2
VARIANTS = {
    "plain": None,
    "sa": {"branches": ("sa",)},
    "dcal": {"branches": ("sa", "glca", "pwca"), "glca_pool": "cls"},
    "dcal-local": {"branches": ("sa", "glca", "pwca"), "glca_pool": "local"},
}


def build(name, options, device):
    """A closure that runs one step of the variant on a fixed random batch."""
    torch.manual_seed(0)
    images = torch.randn(options.batch_size, 3, options.image_size, options.image_size, device=device)
    people = torch.arange(options.batch_size, device=device) // 4
    families = people // 2
    if VARIANTS[name] is None:
        model = timm.create_model(options.backbone, num_classes=NUM_PEOPLE, img_size=options.image_size)
        model = model.to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)

        def loss_of_batch():
            return F.cross_entropy(model(images), people)
    else:
        model = DCALVerificationModel(options.backbone, image_size=options.image_size, **VARIANTS[name])
        model = model.to(device).train()
        loss = DCALLoss(model.width, NUM_PEOPLE, model.branches, LossConfig()).to(device)
        optimizer = torch.optim.AdamW([*model.parameters(), *loss.parameters()], lr=1e-4)

        def loss_of_batch():
            return loss(model(images).active(), people, families)[0]

    def step():
        loss_of_batch().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def main():
    options = measure.parser(__doc__.splitlines()[0]).parse_args()
    measured = measure.compare(__file__, VARIANTS, build, options)
    if measured is None:
        return
    times, memory = measured
    for name in list(VARIANTS)[1:]:
        middle, low, high = measure.ratio(times, name, "plain")
        print(measure.verdict(f"{name}: step", middle, TIME_TARGET, f"[{low:.2f}, {high:.2f}]"))
        print(measure.verdict(f"{name}: memory", memory[name] / memory["plain"], MEMORY_TARGET))


if __name__ == "__main__":
    main()
