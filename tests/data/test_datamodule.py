"""Transforms, the data set and its loaders: what they give never depends on who loads it."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from twin_dcal.config import TwinVerificationConfig
from twin_dcal.data.datamodule import TwinDataModule
from twin_dcal.data.dataset import FaceDataset, augmentation_seed
from twin_dcal.data.manifest import load_face_set
from twin_dcal.data.samplers import SampleKey
from twin_dcal.data.transforms import ColorJitter, eval_transform, train_transform
from twin_dcal.errors import ImageError

SIZE = 32


@pytest.fixture
def folder(tmp_path, encode, draw, write_json):
    for number, person in enumerate("abcdef"):
        (tmp_path / "train" / person).mkdir(parents=True)
        for image in range(3):
            content = encode(draw(40, 36, seed=10 * number + image), "PNG")
            (tmp_path / "train" / person / f"{image}.png").write_bytes(content)
    write_json(tmp_path / "twin_pairs_infor.json", [["a", "b"], ["c", "d"]])
    return tmp_path


def config_of(folder, num_workers=0, **data):
    return TwinVerificationConfig.from_dict(
        {
            "data": {
                "data_dir": str(folder),
                "image_size": SIZE,
                "val_fraction": 0.0,
                "test_fraction": 0.0,
                **data,
            },
            "training": {"batch_size": 8, "images_per_person": 2},
            "runtime": {"num_workers": num_workers, "device": "cpu", "seed": 11},
        }
    )


def module_of(folder, **options):
    module = TwinDataModule(config_of(folder, **options))
    module.setup()
    return module


def noise(height, width, seed=0):
    return torch.randint(
        0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


@pytest.mark.parametrize("shape", [(40, 60), (SIZE, SIZE), (5, 90), (300, 200), (1, 1)])
@pytest.mark.parametrize("make", [eval_transform, lambda size: train_transform(size, True)])
def test_transforms_give_uint8_squares_and_leave_their_input(make, shape):
    image = noise(*shape)
    before = image.clone()
    transform = pickle.loads(pickle.dumps(make(SIZE)))
    shown = transform(image)
    assert shown.shape == (3, SIZE, SIZE)
    assert shown.dtype == torch.uint8
    assert torch.equal(image, before)


def test_evaluation_is_the_centre_without_randomness():
    image = noise(SIZE, SIZE)
    assert torch.equal(eval_transform(SIZE)(image), image)
    wide = noise(SIZE, SIZE + 20)
    assert torch.equal(eval_transform(SIZE)(wide), wide[:, :, 10:-10])
    state = torch.get_rng_state()
    eval_transform(SIZE)(noise(50, 70))
    assert torch.equal(torch.get_rng_state(), state)


def test_one_matrix_does_what_three_steps_of_torchvision_do():
    image = noise(40, 56) // 4 + 96  # far from black and white, where the two clip at different moments
    steps = [v2.functional.adjust_brightness, v2.functional.adjust_contrast, v2.functional.adjust_saturation]
    jitter = ColorJitter(0.2)
    with torch.random.fork_rng(devices=[]):
        for seed in range(20):
            torch.manual_seed(seed)
            factors = 1 + 0.2 * (2 * torch.rand(3) - 1)
            expected = image.float() / 255
            for step in torch.randperm(3).tolist():
                expected = steps[step](expected, float(factors[step]))
            torch.manual_seed(seed)
            shown = jitter(image.permute(1, 2, 0).contiguous().permute(2, 0, 1))
            assert (shown - expected * 255).abs().max() < 0.51


def test_jitter_stays_in_the_range_of_bytes():
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).repeat(3, 8, 4)
    with torch.random.fork_rng(devices=[]):
        for seed in range(20):
            torch.manual_seed(seed)
            shown = ColorJitter(0.2)(black_and_white)
            assert shown[:, :, 0].max() < 128 < shown[:, :, 1].min()


def test_training_transform_varies_and_flips_only_when_told():
    ramp = torch.arange(64, dtype=torch.uint8).mul(4).expand(3, 64, 64).contiguous()

    def num_falling(transform):
        outputs = [transform(ramp).float() for _ in range(40)]
        assert len({tuple(output.flatten().tolist()) for output in outputs}) == 40
        return sum(bool(output[..., -8:].mean() < output[..., :8].mean()) for output in outputs)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert num_falling(train_transform(SIZE, horizontal_flip=False)) == 0
        assert 8 <= num_falling(train_transform(SIZE, horizontal_flip=True)) <= 32


def test_samples_say_who_and_where(folder):
    faces, _ = load_face_set(folder, split="train")
    dataset = FaceDataset(faces, eval_transform(SIZE), seed=0)
    assert len(dataset) == 18
    sample = dataset[4]
    assert sample["image"].shape == (3, SIZE, SIZE)
    assert (sample["person"], sample["family"], sample["index"]) == (1, 0, 4)
    assert dataset[SampleKey(17, 0, 0, 0)]["family"] == 3
    unknown = FaceDataset.of_paths([str(path) for path in faces.paths], eval_transform(SIZE))
    assert (unknown[4]["person"], unknown[4]["family"]) == (-1, -1)
    assert torch.equal(unknown[4]["image"], sample["image"])


def test_augmentation_is_keyed_by_its_place_alone(folder):
    faces, _ = load_face_set(folder, split="train")
    dataset = FaceDataset(faces, train_transform(SIZE, True), seed=0)
    key = SampleKey(2, epoch=1, batch=2, slot=3)
    image = dataset[key]["image"]
    torch.rand(5)
    assert torch.equal(dataset[key]["image"], image)
    others = [SampleKey(2, 0, 2, 3), SampleKey(2, 1, 0, 3), SampleKey(2, 1, 2, 0)]
    assert all(not torch.equal(dataset[other]["image"], image) for other in others)
    assert not torch.equal(FaceDataset(faces, train_transform(SIZE, True), seed=1)[key]["image"], image)
    seeds = {
        augmentation_seed(s, SampleKey(0, e, b, k))
        for s in (0, 1)
        for e in (0, 1)
        for b in (0, 1)
        for k in (0, 1)
    }
    assert len(seeds) == 16


def test_global_randomness_is_untouched(folder):
    torch.manual_seed(5)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    module = module_of(folder, num_workers=2)
    list(module.train_loader())
    dataset = FaceDataset(module.face_data.train, train_transform(SIZE, True), seed=0)
    dataset[0]
    list(module.eval_loader(module.face_data.train))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def assert_same_batch(one, other):
    assert one["fault"] == other["fault"]
    assert all(torch.equal(one[key], other[key]) for key in one.keys() - {"fault"})


def test_batches_do_not_depend_on_the_number_of_workers(folder):
    epochs = {}
    for num_workers in (0, 2):
        loader = module_of(folder, num_workers=num_workers).train_loader()
        epochs[num_workers] = []
        for epoch in (0, 1):
            loader.batch_sampler.set_epoch(epoch)
            epochs[num_workers] += list(loader)
    assert len(epochs[0]) == len(epochs[2]) > 4
    for alone, shared in zip(epochs[0], epochs[2], strict=True):
        assert alone.keys() == shared.keys() == {"image", "person", "family", "index", "asked", "fault"}
        assert_same_batch(alone, shared)
    assert not torch.equal(epochs[0][0]["image"], epochs[0][len(epochs[0]) // 2]["image"])


def test_a_resumed_epoch_goes_on_with_the_same_batches(folder):
    whole, resumed = module_of(folder).train_loader(), module_of(folder).train_loader()
    whole.batch_sampler.set_epoch(4)
    resumed.batch_sampler.set_epoch(4, start_batch=2)
    assert len(resumed) == len(whole) - 2
    for one, other in zip(list(whole)[2:], resumed, strict=True):
        assert_same_batch(one, other)


def test_training_batches_are_families(folder):
    module = module_of(folder)
    assert module.num_people == 6
    assert "train: 6 people in 4 families (2 of twins)" in module.summary
    for batch in module.train_loader():
        assert batch["image"].dtype == torch.uint8
        people, counts = batch["person"].unique(return_counts=True)
        assert (counts == 2).all()
        assert len(people) <= 4
        assert (0 in people) == (1 in people)
        family_of = torch.from_numpy(module.face_data.train.family_of)
        assert torch.equal(batch["family"], family_of[batch["person"]])


def test_evaluation_loader_gives_every_image_once_in_order(folder):
    module = module_of(folder, num_workers=1)
    batches = list(module.eval_loader(module.face_data.train, batch_size=7))
    assert [len(batch["index"]) for batch in batches] == [7, 7, 4]
    assert torch.cat([batch["index"] for batch in batches]).tolist() == list(range(18))
    paths = [module.face_data.train.paths[3], str(module.face_data.train.paths[0])]
    [batch] = module.eval_loader(paths)
    assert batch["index"].tolist() == [0, 1]
    assert torch.equal(batch["image"][1], batches[0]["image"][0])


def test_augmentation_can_be_switched_off(folder):
    module = module_of(folder, augmentation=False)
    batch = next(iter(module.train_loader()))
    plain = FaceDataset(module.face_data.train, eval_transform(SIZE), seed=0)
    assert all(
        torch.equal(image, plain[int(at)]["image"])
        for image, at in zip(batch["image"], batch["index"], strict=True)
    )


def test_transforms_of_the_user(folder):
    module = module_of(folder)
    to_float = v2.Compose([v2.Resize([8, 8]), v2.ToDtype(torch.float32, scale=True)])
    module.setup_transforms(train=to_float, evaluation=to_float)
    for loader in (module.train_loader(), module.eval_loader(module.face_data.train)):
        image = next(iter(loader))["image"]
        assert image.dtype == torch.float32
        assert image.shape[1:] == (3, 8, 8)
        assert 0 <= image.min() <= image.max() <= 1
    module.setup_transforms()
    assert next(iter(module.train_loader()))["image"].shape[1:] == (3, SIZE, SIZE)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (lambda image: image.numpy(), "the transform gave a ndarray"),
        (lambda image: image[:1], r"gave torch.uint8 of shape \(1, 36, 40\)"),
        (lambda image: image.long(), "gave torch.int64 of shape"),
    ],
)
def test_transforms_that_give_something_else(folder, transform, message):
    module = module_of(folder)
    module.setup_transforms(train=transform)
    with pytest.raises(TypeError, match=message):
        next(iter(module.train_loader()))


def test_an_image_that_vanishes_is_named(folder):
    module = module_of(folder)
    module.face_data.train.paths[0].unlink()
    with pytest.raises(ImageError, match=r"0\.png: no such file"):
        list(module.eval_loader(module.face_data.train))


def test_setup_comes_first(folder):
    module = TwinDataModule(config_of(folder))
    with pytest.raises(RuntimeError, match=r"Call setup\(\) first"):
        module.train_loader()


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="the sender of a signal cannot be known here")
def test_workers_outlive_the_signals_of_a_scheduler_and_end_with_their_parent(folder):
    code = textwrap.dedent(
        f"""
        import signal, sys, time
        from twin_dcal.config import TwinVerificationConfig
        from twin_dcal.data.datamodule import TwinDataModule
        config = TwinVerificationConfig.from_dict({config_of(folder, num_workers=1).model_dump()!r})
        module = TwinDataModule(config)
        module.setup()
        loader = module.train_loader()
        batches = iter(loader)
        next(batches)
        received = []  # set now, so that the worker does not inherit these
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda number, frame: received.append(number))
        print("ready", flush=True)
        while len(received) < 2:
            time.sleep(0.01)  # not signal.pause: a signal just before it would be waited for forever
        num_batches = 1 + sum(1 for _ in batches)
        assert num_batches == len(loader), num_batches
        print("all batches", flush=True)
        """
    )
    command = [sys.executable, "-W", "error", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        for name in (signal.SIGINT, signal.SIGTERM):
            os.killpg(process.pid, name)
        try:
            output, _ = process.communicate(timeout=120)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert (output, process.returncode) == ("all batches\n", 0)
