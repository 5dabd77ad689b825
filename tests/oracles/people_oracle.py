"""Error tables and k-fold figures by loops over pairs; never imports twin_dcal or numpy."""

import math


def kind_of(one, other, people, families):
    if people[one] == people[other]:
        return "genuine"
    return "twin" if families[one] == families[other] else "unrelated"


def wrong(score, kind, threshold):
    return score < threshold if kind == "genuine" else score >= threshold


def person_table(pairs, people, threshold):
    """{person: {"genuine": [n, errors], "twin": …, "unrelated": …, "genuine_sum", "impostor_sum"}}.

    pairs: (one, other, score, kind).
    """
    table = {}
    for person in set(people):
        row = {
            "genuine": [0, 0],
            "twin": [0, 0],
            "unrelated": [0, 0],
            "genuine_sum": 0.0,
            "impostor_sum": 0.0,
        }
        for one, other, score, kind in pairs:
            if person not in (people[one], people[other]):
                continue
            row[kind][0] += 1
            row[kind][1] += wrong(score, kind, threshold)
            row["genuine_sum" if kind == "genuine" else "impostor_sum"] += score
        table[person] = row
    return table


def family_table(pairs, families, threshold):
    """{family: {"genuine": [n, errors], "twin": [n, errors], "auc": AUC or None}}."""
    table = {}
    for family in set(families):
        row = {"genuine": [0, 0], "twin": [0, 0]}
        scores = {"genuine": [], "twin": []}
        for one, other, score, kind in pairs:
            if families[one] == family == families[other]:
                row[kind][0] += 1
                row[kind][1] += wrong(score, kind, threshold)
                scores[kind].append(score)
        row["auc"] = _auc(scores["genuine"], scores["twin"])
        table[family] = row
    return table


def _auc(genuine, impostor):
    if not genuine or not impostor:
        return None
    won = sum((g > i) + 0.5 * (g == i) for g in genuine for i in impostor)
    return won / (len(genuine) * len(impostor))


def jackknife(scores_by_pair, images):
    """(mean, standard error) of a mean over pairs, leaving out one image at a time. scores_by_pair: {(i, j): score}."""
    mean = sum(scores_by_pair.values()) / len(scores_by_pair)
    without = []
    for image in images:
        kept = [score for pair, score in scores_by_pair.items() if image not in pair]
        without.append(sum(kept) / len(kept))
    centre = sum(without) / len(without)
    n = len(without)
    return mean, math.sqrt((n - 1) / n * sum((value - centre) ** 2 for value in without))


def held_out_rates(pairs, fold_of_family, families, thresholds, impostors):
    """[(accuracy, fmr, fnmr)] of each fold, at that fold's threshold."""
    rates = []
    for fold, threshold in enumerate(thresholds):
        count = {True: [0, 0], False: [0, 0]}
        for one, other, score, kind in pairs:
            if fold_of_family[families[one]] != fold or fold_of_family[families[other]] != fold:
                continue
            if kind == "genuine" or kind in impostors:
                same = kind == "genuine"
                count[same][0] += 1
                count[same][1] += wrong(score, kind, threshold)
        errors, total = count[True][1] + count[False][1], count[True][0] + count[False][0]
        rates.append((1 - errors / total, count[False][1] / count[False][0], count[True][1] / count[True][0]))
    return rates


def reliability(calibrated_genuine, calibrated_impostor, num_bins):
    """(ECE, Brier), both classes weighing one half."""
    bins = [[0.0, 0.0, 0.0] for _ in range(num_bins)]
    brier = 0.0
    for values, truth in ((calibrated_genuine, 1), (calibrated_impostor, 0)):
        weight = 0.5 / len(values)
        for p in values:
            at = min(int(p * num_bins), num_bins - 1)
            bins[at][0] += weight
            bins[at][1] += weight * p
            bins[at][2] += weight * truth
            brier += weight * (p - truth) ** 2
    ece = sum(mass * abs(truth / mass - promised / mass) for mass, promised, truth in bins if mass)
    return ece, brier
