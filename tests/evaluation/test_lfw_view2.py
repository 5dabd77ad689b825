"""View 2 of LFW: `pairs.txt` as published, threshold on nine folds, the tenth judged; by an independent loop."""

import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from twin_dcal.errors import ManifestError, MetricError
from twin_dcal.evaluation.embedding_files import read_embeddings, write_embeddings
from twin_dcal.evaluation.evaluate import Decision, EvaluationOptions, evaluate
from twin_dcal.evaluation.inputs import DataFiles, read_comparisons
from twin_dcal.evaluation.protocol import listed_source, without_images
from twin_dcal.evaluation.score_files import read_scores
from twin_dcal.evaluation.systems import ScoresSystem
from twin_dcal.evaluation.table import format_table

FOLDS, EACH = 10, 6
EFFORT = EvaluationOptions(num_replicates=0)


@pytest.fixture(scope="module")
def view_2(tmp_path_factory):
    """(pairs.txt, folder of images, [(fold, same, names of both images)], scores). People of a fold are in no other."""
    root, rng = tmp_path_factory.mktemp("lfw"), np.random.default_rng(0)
    lines, truth = [f"{FOLDS}\t{EACH}"], []
    for fold in range(FOLDS):
        people = [f"Person_{fold}_{number}" for number in range(4)]
        genuine = [(who, i, who, j) for who in people for i, j in ((1, 2), (1, 3), (2, 3))]
        impostor = [(a, i, b, j) for a in people for b in people if a < b for i in (1, 2) for j in (1, 2)]
        for pool, same in ((genuine, True), (impostor, False)):
            for at in rng.permutation(len(pool))[:EACH]:
                one, i, other, j = pool[at]
                lines.append(f"{one}\t{i}\t{j}" if same else f"{one}\t{i}\t{other}\t{j}")
                truth.append((fold, same, (f"{one}/{one}_{i:04d}.jpg", f"{other}/{other}_{j:04d}.jpg")))
        for who in people:
            (root / "images" / who).mkdir(parents=True)
            for number in (1, 2, 3):
                Image.new("RGB", (4, 4)).save(root / "images" / who / f"{who}_{number:04d}.jpg")
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    scores = np.round(rng.normal(size=len(truth)) * 0.2 + 0.4 * np.array([same for _, same, _ in truth]), 2)
    return root / "pairs.txt", root / "images", truth, scores.tolist()


def by_loop(truth, scores):
    """Accuracies of the folds, their mean, its standard error: the threshold is the genuine score that is best on the
    other nine, the strictest of several."""
    accuracies = []
    for held_out in range(FOLDS):
        others = [
            (same, score) for (fold, same, _), score in zip(truth, scores, strict=True) if fold != held_out
        ]
        judged = [
            (same, score) for (fold, same, _), score in zip(truth, scores, strict=True) if fold == held_out
        ]
        best, threshold = -1, math.inf
        for candidate in sorted({score for same, score in others if same}, reverse=True):
            right = sum((score >= candidate) == same for same, score in others)
            if right > best:
                best, threshold = right, candidate
        accuracies.append(sum((score >= threshold) == same for same, score in judged) / len(judged))
    mean = sum(accuracies) / FOLDS
    deviation = math.sqrt(sum((each - mean) ** 2 for each in accuracies) / (FOLDS - 1))
    return accuracies, mean, deviation / math.sqrt(FOLDS)


def folds_of(comparisons, scores, effort=EFFORT):
    return evaluate(listed_source(comparisons, scores), comparisons, Decision(0.2), effort).figures


def check(told, truth, scores):
    accuracies, mean, error = by_loop(truth, scores)
    section = told["folds"]["sections"]["all"]
    assert section["accuracy"]["folds"] == pytest.approx(accuracies)
    assert section["accuracy"]["mean"] == pytest.approx(mean)
    assert section["accuracy"]["se"] == pytest.approx(error)
    assert 0.5 < mean < 0.99
    assert error > 0
    assert (told["folds"]["by"], told["folds"]["metric"], told["folds"]["num_folds"]) == (
        "list",
        "accuracy",
        FOLDS,
    )
    assert section["num_genuine"] == section["num_impostors"] == [EACH] * FOLDS
    assert section["of_impostors"] == FOLDS * EACH
    return mean, error


def test_pairs_txt_as_it_is(view_2):
    path, images, truth, scores = view_2
    comparisons = read_comparisons(path, DataFiles(data_root=str(images)), "test")
    assert comparisons.pairs.folds.tolist() == [fold for fold, _, _ in truth]
    told = folds_of(comparisons, scores)
    mean, error = check(told, truth, scores)
    text = format_table(told)
    assert "The list's own 10 folds, threshold by accuracy on the others (mean ± standard error):" in text
    assert f"all 60 of 60 {100 * mean:.2f} ± {100 * error:.2f}" in " ".join(text.split())
    with pytest.raises(
        MetricError, match=r"5 folds: the list has 10 of its own, which are used; leave out --folds"
    ):
        folds_of(comparisons, scores, EvaluationOptions(num_replicates=0, num_folds=5))
    assert (
        folds_of(comparisons, scores, EvaluationOptions(num_replicates=0, num_folds=10))["folds"]
        == told["folds"]
    )
    fewer, _ = without_images(comparisons, {0: "damaged"})
    assert len(fewer.pairs.folds) == len(fewer.pairs.kinds) < len(truth)


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_column_of_folds_is_the_same(view_2, tmp_path, shuffled):
    """In a list of pairs, in scores, and in stored embeddings."""
    _, images, truth, scores = view_2
    order = np.random.default_rng(1).permutation(len(truth)) if shuffled else range(len(truth))
    rows = [(*truth[at][2], int(truth[at][1]), f"split {truth[at][0]}", scores[at]) for at in order]
    head = "img1,img2,label,fold,score\n"
    (tmp_path / "p.csv").write_text(head + "".join(",".join(map(str, row)) + "\n" for row in rows))
    comparisons = read_comparisons(tmp_path / "p.csv", DataFiles(data_root=str(images)), "test")
    told = folds_of(comparisons, [row[-1] for row in rows])
    check(told, *_in_order(truth, scores, order))
    scored = ScoresSystem(read_scores(tmp_path / "p.csv"), DataFiles()).scored(None, "test")
    again = evaluate(scored.source, scored.comparisons, Decision(0.2), EFFORT).figures["folds"]
    assert (
        again["sections"]["all"]["accuracy"]["folds"] == told["folds"]["sections"]["all"]["accuracy"]["folds"]
    )
    write_embeddings(tmp_path / "e.npz", comparisons, np.ones((len(comparisons.names), 2), np.float32), {})
    assert read_embeddings(tmp_path / "e.npz").pairs.folds.tolist() == comparisons.pairs.folds.tolist()


def _in_order(truth, scores, order):
    """Folds numbered as they come in the list."""
    number = {fold: at for at, fold in enumerate(dict.fromkeys(truth[row][0] for row in order))}
    return [(number[fold], same, names) for fold, same, names in truth], scores


def test_folds_that_some_pairs_lack_are_an_error(view_2, tmp_path):
    _, images, truth, _ = view_2
    lines = [",".join((*names, str(int(same)), str(fold))) for fold, same, names in truth]
    lines[5] = lines[5].rpartition(",")[0] + ","
    (tmp_path / "p.csv").write_text("\n".join(["img1,img2,label,fold", *lines]))
    with pytest.raises(ManifestError, match=r"p\.csv, line 7: the pair has no fold, others have"):
        read_comparisons(tmp_path / "p.csv", DataFiles(data_root=str(images)), "test")


def test_folds_dealt_by_family_say_how_few_impostor_pairs_they_use(view_2, tmp_path):
    """People of one fold of LFW are dealt into several: most impostor pairs are of people of two."""
    path, images, _, scores = view_2
    comparisons = read_comparisons(path, DataFiles(data_root=str(images)), "test")
    unfolded = replace(comparisons, pairs=replace(comparisons.pairs, folds=None))
    told = folds_of(unfolded, scores, EvaluationOptions(num_replicates=0, num_folds=4))
    section = told["folds"]["sections"]["all"]
    used = sum(section["num_impostors"])
    assert section["of_impostors"] == 60
    assert 0 < used < 30
    assert f"{used} of 60" in format_table(told)
