"""The real data set that development uses; absent elsewhere."""

import time
from pathlib import Path

import pytest

from twin_dcal.config import DataConfig
from twin_dcal.data.images import read_image
from twin_dcal.data.manifest import load_face_data, load_face_set
from twin_dcal.errors import ManifestError

LOOKALIKES = Path(__file__).parents[2].parent / "shared" / "data" / "lookalikes"

pytestmark = pytest.mark.skipif(
    not LOOKALIKES.is_dir(), reason="shared/data/lookalikes is not beside the repository"
)


def test_figures_of_each_split():
    data = load_face_data(DataConfig(data_dir=str(LOOKALIKES)), seed=0)
    figures = {
        split: (faces.num_people, faces.num_twin_families, faces.num_images)
        for split, faces in (("train", data.train), ("val", data.val), ("test", data.test))
    }
    assert figures == {"train": (178, 89, 3861), "val": (24, 12, 549), "test": (56, 28, 1304)}
    assert "left out: nothing" in data.summary()


def test_pictures_under_two_people_are_noticed():
    with pytest.raises(ManifestError, match="6 pictures are under two people, as copies: .*07312.*07314"):
        load_face_data(DataConfig(data_dir=str(LOOKALIKES), strict=True), seed=0)


def test_json_alone_and_folders_alone_agree():
    by_json = load_face_data(
        DataConfig(dataset_info=str(LOOKALIKES / "dataset_infor.json"), data_root=str(LOOKALIKES)), seed=0
    )
    faces, _ = load_face_set(LOOKALIKES / "test")
    assert faces.paths == by_json.test.paths
    assert (faces.family_of == by_json.test.family_of).all()


def test_loading_is_quick():
    data = DataConfig(data_dir=str(LOOKALIKES))
    load_face_data(data, seed=0)  # the disk's cache is not what is timed
    start = time.process_time()
    load_face_data(data, seed=0)
    assert time.process_time() - start < 2.0


def test_an_image():
    image = read_image(LOOKALIKES / "train" / "07201" / "07201_00.jpg")
    assert image.shape == (3, 224, 224)
    assert 20 < image.float().mean() < 235
