"""A data set of drawn faces to edit."""

import json

import pytest
from PIL import Image

from twin_dcal.synth.identity import DIFFICULTIES, draw_family
from twin_dcal.synth.known import know
from twin_dcal.synth.photo import draw_photo

HARD = DIFFICULTIES["hard"]
SIDE = 160


@pytest.fixture(scope="session")
def faces(tmp_path_factory):
    """3 families of look-alikes of 2, one to a split; one person has too few photos, and one photo no face."""
    root = tmp_path_factory.mktemp("faces")
    info, pairs = {}, []
    for number, split in enumerate(("train", "val", "test")):
        pairs.append([f"1{number}", f"2{number}"])
        for person in pairs[-1]:
            count = 3 if person == "22" else 6
            info[person] = [f"{split}/{person}/{photo}.jpg" for photo in range(count)]
            (root / split / person).mkdir(parents=True)
            known = know(draw_family(0, int(person), 1, HARD), 2 * SIDE)[0]
            for photo, name in enumerate(info[person]):
                pixels, _ = known.take(draw_photo(0, int(person), 0, photo, HARD), SIDE)
                Image.fromarray(pixels).save(root / name, quality=92)
    blank = root / "train/10/6.jpg"
    Image.new("RGB", (SIDE, SIDE), "white").save(blank)
    info["10"].append("train/10/6.jpg")
    (root / "dataset_infor.json").write_text(json.dumps(info))
    (root / "twin_pairs_infor.json").write_text(json.dumps(pairs))
    return root
