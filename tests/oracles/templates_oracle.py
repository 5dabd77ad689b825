"""Scores of templates by loops over photographs and numbers; never imports twin_dcal or numpy."""

import math


def dot(one, other):
    return sum(a * b for a, b in zip(one, other, strict=True))


def mean_of(rows, weights, parts):
    """The weighted mean of rows, each part (begin, end, squared length) scaled to its length."""
    mean = [
        sum(weight * row[at] for weight, row in zip(weights, rows, strict=True)) for at in range(len(rows[0]))
    ]
    for begin, end, squared in parts:
        length = math.sqrt(dot(mean[begin:end], mean[begin:end]))
        mean[begin:end] = [math.sqrt(squared) * value / length for value in mean[begin:end]]
    return mean


def template_score(one, two, rule, weights, parts, score):
    """The score of two templates. score(row, row): of a pair of rows."""
    if rule == "mean":
        return score(mean_of(one, weights[0], parts), mean_of(two, weights[1], parts))
    found = [score(a, b) for a in one for b in two]
    return max(found) if rule == "max" else sum(found) / len(found)
