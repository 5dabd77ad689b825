"""Average linkage by loops over all pairs of groups; never imports twin_dcal or numpy."""


def groups(scores, threshold):
    """Sets of numbers: the two most alike groups are joined while they are on average at least as alike as that."""
    found = [[number] for number in range(len(scores))]
    while len(found) > 1:
        best, pair = max(
            (sum(scores[a][b] for a in one for b in two) / (len(one) * len(two)), (i, j))
            for i, one in enumerate(found)
            for j, two in enumerate(found)
            if i < j
        )
        if best < threshold:
            break
        found[pair[0]] += found.pop(pair[1])
    return {frozenset(group) for group in found}
