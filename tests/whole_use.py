"""What is done with a backbone from its first step to an exported model, as steps that tests put together."""

import numpy as np
import torch

from twin_dcal.checkpoint import load_model, save_model
from twin_dcal.config import LossConfig
from twin_dcal.data.fit import sides
from twin_dcal.losses import DCALLoss
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.models.preprocessing import Preprocessing


def pictures(size, count=4, seed=0):
    """(count, rows, columns, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (count, *sides(size), 3), np.uint8)


def normalised(preprocessing, pixels):
    return preprocessing.normalize(torch.tensor(pixels).permute(0, 3, 1, 2))


def trained_two_steps(model, config):
    """Take two steps on two pictures each of a pair of twins; the names of the tensors that moved."""
    images = normalised(Preprocessing.of(model.backbone, config), pictures(config.data.image_size))
    people, family = torch.tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.long)
    loss = DCALLoss(model.width, 2, model.branches, LossConfig(head="pairs"))
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.05)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    for _ in range(2):
        optimizer.zero_grad()
        total, _ = loss(model.train()(images).active(), people, family)
        assert torch.isfinite(total)
        total.backward()
        torch.nn.utils.clip_grad_norm_(
            model.parameters(), 1.0
        )  # as in training: deep random networks need it
        optimizer.step()
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def saved_and_read(model, config, path):
    """The model as `load_model` reads it from `path`; its features are those of the one that was saved."""
    save_model(
        path,
        model,
        config,
        threshold=Threshold(0.5, {"criterion": "eer", "impostors": "twin", "data": "made up"}),
    )
    loaded = load_model(path)
    images = normalised(loaded.preprocessing, pictures(config.data.image_size))
    with torch.no_grad():
        features = model.eval().embed(images)
        assert torch.equal(loaded.model.embed(images), features)
    assert float((features[0] @ features[2]).abs()) < 0.99999, "pictures are told apart"
    return loaded


def exported_differs_by(loaded):
    """Largest difference of any feature between the exported graph in ONNX Runtime and torch."""
    import onnxruntime

    from twin_dcal.export.graph import to_onnx

    session = onnxruntime.InferenceSession(to_onnx(loaded).SerializeToString())
    pixels = pictures(loaded.preprocessing.image_size, 3)
    found = session.run(None, {session.get_inputs()[0].name: pixels})
    with torch.no_grad():
        wanted = loaded.model.features(normalised(loaded.preprocessing, pixels)).values()
    return max(float(np.abs(one - two.numpy()).max()) for one, two in zip(found, wanted, strict=True))
