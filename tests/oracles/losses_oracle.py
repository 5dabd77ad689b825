"""Nested loops that restate docs/method.md's losses on plain numbers; never imports twin_dcal or torch."""

import math


def unit(row):
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def cosine(a, b):
    return sum(x * y for x, y in zip(unit(a), unit(b), strict=True))


def cosface(cosines, labels, scale, margin):
    logits = []
    for row, label in zip(cosines, labels, strict=True):
        logits.append([scale * (value - (margin if k == label else 0)) for k, value in enumerate(row)])
    return logits


def arcface(cosines, labels, scale, margin):
    logits = []
    for row, label in zip(cosines, labels, strict=True):
        new = []
        for k, value in enumerate(row):
            if k == label:
                angle = math.acos(value)
                past = angle + margin > math.pi
                value = value - margin * math.sin(margin) if past else math.cos(angle + margin)
            new.append(scale * value)
        logits.append(new)
    return logits


def cross_entropy(logits, labels, smoothing=0.0):
    """Mean over rows; the target gives (1 − smoothing) to its class and spreads the rest over all classes."""
    total = 0.0
    for row, label in zip(logits, labels, strict=True):
        largest = max(row)
        norm = largest + math.log(sum(math.exp(x - largest) for x in row))
        for k, value in enumerate(row):
            share = smoothing / len(row) + (1 - smoothing if k == label else 0)
            total -= share * (value - norm)
    return total / len(labels)


def mine(distances, people, families):
    """[(anchor, positive, negative)]: the farthest own image, the nearest twin's, else the nearest other's."""
    found = []
    for a in range(len(people)):
        positive = negative = None
        for p in range(len(people)):
            if p == a or people[p] != people[a]:
                continue
            if positive is None or distances[a][p] > distances[a][positive]:
                positive = p
        has_twin = any(people[n] != people[a] and families[n] == families[a] for n in range(len(people)))
        for n in range(len(people)):
            if people[n] == people[a] or (has_twin and families[n] != families[a]):
                continue
            if negative is None or distances[a][n] < distances[a][negative]:
                negative = n
        if positive is not None and negative is not None:
            found.append((a, positive, negative))
    return found


def triplet(embeddings, people, families, margin):
    distances = [[1 - cosine(a, b) for b in embeddings] for a in embeddings]
    found = mine(distances, people, families)
    if not found:
        return 0.0
    return sum(max(0.0, distances[a][p] - distances[a][n] + margin) for a, p, n in found) / len(found)


def joint(losses, log_variances):
    total = 0.0
    for loss, w in zip(losses, log_variances, strict=True):
        total += 0.5 * (math.exp(-w) * loss + w)
    return total
