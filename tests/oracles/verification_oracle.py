"""Nested loops that restate docs/metrics.md in plain Python; never imports twin_dcal or numpy."""

import itertools
import math


def rates(genuine, impostor, threshold):
    """(FMR, FNMR) at a threshold, as exact counts over totals."""
    false_matches = 0
    for score in impostor:
        if score >= threshold:
            false_matches += 1
    misses = 0
    for score in genuine:
        if score < threshold:
            misses += 1
    return false_matches / len(impostor), misses / len(genuine)


def thresholds(genuine, impostor):
    """+inf, then every distinct observed score, descending."""
    return [math.inf, *sorted({*genuine, *impostor}, reverse=True)]


def auc(genuine, impostor):
    won = 0.0
    for g in genuine:
        for i in impostor:
            if g > i:
                won += 1
            elif g == i:
                won += 0.5
    return won / (len(genuine) * len(impostor))


def eer(genuine, impostor):
    """(rate, [acceptable thresholds]): linear between the two points where FNMR - FMR changes sign."""
    points = [(t, *rates(genuine, impostor, t)) for t in thresholds(genuine, impostor)]
    for (t0, fmr0, fnmr0), (t1, fmr1, fnmr1) in itertools.pairwise(points):
        before, after = fnmr0 - fmr0, fnmr1 - fmr1
        if before > 0 >= after:
            rate = fmr0 + before / (before - after) * (fmr1 - fmr0)
            near = [t for t, gap in ((t0, before), (t1, -after)) if gap <= min(before, -after) + 1e-12]
            if math.isinf(t0):
                near = [t1]
            return rate, near
    raise AssertionError("no crossing")


def operating_point(genuine, impostor, requested):
    """(threshold, FMR, FNMR) of the lowest observed threshold whose FMR is at most the requested one."""
    found = None
    for t in thresholds(genuine, impostor):
        fmr, fnmr = rates(genuine, impostor, t)
        if fmr <= requested:
            found = (t, fmr, fnmr)
    return found


def best_accuracy(genuine, impostor):
    best = None
    for t in thresholds(genuine, impostor):
        right = sum(g >= t for g in genuine) + sum(i < t for i in impostor)
        if best is None or right > best[0]:
            best = (right, t)
    return best[0] / (len(genuine) + len(impostor)), best[1]


def best_f1(genuine, impostor):
    best = (-1.0, math.inf)
    for t in thresholds(genuine, impostor):
        matches = sum(g >= t for g in genuine)
        declared = matches + sum(i >= t for i in impostor)
        precision = matches / declared if declared else 0.0
        recall = matches / len(genuine)
        f1 = 2 * precision * recall / (precision + recall) if matches else 0.0
        if f1 > best[0] + 1e-12:
            best = (f1, t)
    return best


def average_precision(genuine, impostor):
    total, recall_before = 0.0, 0.0
    for t in thresholds(genuine, impostor)[1:]:
        matches = sum(g >= t for g in genuine)
        declared = matches + sum(i >= t for i in impostor)
        recall = matches / len(genuine)
        total += (recall - recall_before) * matches / declared
        recall_before = recall
    return total


def cosine(a, b):
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def all_pairs(embeddings, person_of, family_of):
    """{"genuine": [...], "twin": [...], "unrelated": [...]} over all i < j, in any order."""
    out = {"genuine": [], "twin": [], "unrelated": []}
    for i in range(len(embeddings)):
        for j in range(i + 1, len(embeddings)):
            if person_of[i] == person_of[j]:
                kind = "genuine"
            elif family_of[i] == family_of[j]:
                kind = "twin"
            else:
                kind = "unrelated"
            out[kind].append(cosine(embeddings[i], embeddings[j]))
    return out


def log_loss(probabilities_genuine, probabilities_impostor):
    """Cross-entropy in nats, both classes weighing the same."""
    same = -sum(math.log(p) for p in probabilities_genuine) / len(probabilities_genuine)
    different = -sum(math.log(1 - p) for p in probabilities_impostor) / len(probabilities_impostor)
    return (same + different) / 2


def d_prime(genuine, impostor):
    """Difference of the means in units of the root mean square of the two spreads (over n)."""

    def mean_and_variance(scores):
        mean = sum(scores) / len(scores)
        return mean, sum((score - mean) ** 2 for score in scores) / len(scores)

    (mean_g, variance_g), (mean_i, variance_i) = mean_and_variance(genuine), mean_and_variance(impostor)
    return (mean_g - mean_i) / math.sqrt((variance_g + variance_i) / 2)


def pr_auc(genuine, impostor):
    """Trapezoids under precision over recall at every distinct score, from (recall 0, precision 1)."""
    total, recall_before, precision_before = 0.0, 0.0, 1.0
    for t in thresholds(genuine, impostor)[1:]:
        matches = sum(g >= t for g in genuine)
        recall = matches / len(genuine)
        precision = matches / (matches + sum(i >= t for i in impostor))
        total += (recall - recall_before) * (precision + precision_before) / 2
        recall_before, precision_before = recall, precision
    return total


def drawn_again(pairs, families):
    """Scores by kind when families are drawn: every pair is written out as often as its families were drawn.

    pairs: (family of one image, family of the other, kind, score) each; families: those drawn, repeated as drawn. Two
    copies of one family are never compared with each other.
    """
    out = {"genuine": [], "twin": [], "unrelated": []}
    for one, other, kind, score in pairs:
        if one == other:
            for family in families:
                if family == one:
                    out[kind].append(score)
        else:
            for family in families:
                for partner in families:
                    if (family, partner) == (one, other):
                        out[kind].append(score)
    return out
