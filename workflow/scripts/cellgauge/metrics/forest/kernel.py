"""The compiled part of `forest`: grow one tree and let it vote. Imports numba, so it is imported where a forest is grown.

Compiled once per machine and kept: beside this file, or where that cannot be written, in the user's cache (NUMBA_CACHE_DIR
names another place). Files are replaced atomically, so jobs may start together.
"""

from __future__ import annotations

from collections import namedtuple
from typing import NamedTuple

import numpy as np
from numba import njit

from cellgauge.metrics.forest import TIE

EPSILON = np.finfo(np.float64).eps
FEW = 24
"""Up to so many cells, sorting by insertion is faster than by digits."""
SLACK = 1e-10
"""Share of a node's cells by which a quick estimate of a split's gain may be wrong; rounding makes it 1e-15 at most."""


def compiled(function):
    """Compile a function at its first call; where no cache can be written, anew in every process.

    Without numba's runtime (as numba compiles its own sorting): no array is allocated in these functions, and counting
    references to every slice, in atomic steps, took a tenth of their time.
    """
    try:
        return njit(cache=True, nogil=True, _nrt=False)(function)
    except RuntimeError:  # "no locator available": neither this folder nor the home is writable
        return njit(nogil=True, _nrt=False)(function)


class Split(NamedTuple):
    """The best split of a node."""

    feature: int  # -1 where no feature tells the cells apart
    # low, high: the values on both sides of the cut
    low: float
    high: float
    # left, right: Gini impurities of the children
    left: float
    right: float
    gain: float  # what scikit-learn maximises, -(weights times impurities of the children)
    weight: int  # of the left child


Workspace = namedtuple(
    "Workspace",
    "features constants moved entries more_entries counts width spare places total left stack impurities",
)


def workspace(n_features: int, n_cells: int, n_members: int, n_tested: int, n_classes: int) -> Workspace:
    """Return the arrays that growing one tree on `n_members` of the cells writes to."""
    width = (n_cells.bit_length() + 1) // 2  # n_cells is a rank too: of a gene that every cell has
    return Workspace(
        features=np.arange(n_features),  # their order
        constants=np.empty(n_features, np.int64),  # features known to be constant
        moved=np.empty(n_features, np.int64),  # where drawn features were
        entries=np.empty(n_members, np.int64),  # of the node's members
        more_entries=np.empty(n_members, np.int64),
        counts=np.zeros((2, 1 << width), np.int32),  # how often each of two digits of ranks occurs
        width=width,  # the bits of a digit
        spare=np.empty(max(n_members, n_tested), np.uint32),  # members set aside
        places=np.empty(n_cells, np.uint32),  # which vote is whose
        total=np.empty(n_classes, np.int64),  # weights of classes in the node
        left=np.empty(n_classes, np.int64),  # weights of classes left of the cut
        stack=np.empty((n_members + 1, 5), np.int64),  # with impurities: the nodes still to be split
        impurities=np.empty(n_members + 1),
    )


@compiled
def _no_split():
    return Split(-1, np.float32(0), np.float32(0), 0.0, 0.0, -np.inf, 0)


@compiled
def _insert(entries, n, entry):
    """Insert an entry into the n that are already sorted."""
    place = n
    while place > 0 and entries[place - 1] > entry:
        entries[place] = entries[place - 1]
        place -= 1
    entries[place] = entry


@compiled
def _counted(present, members, chosen):
    """Write to `chosen` the members whose bit is set, return how many; fewer cache lines than asking for all their ranks."""
    n = 0
    for member in members:
        chosen[n] = member
        n += (present[member >> 6] >> (member & 63)) & 1
    return n


@compiled
def _sort_by_digits(entries, spare, counts, width):
    """Sort entries by two digits of their ranks, of `width` bits each; `counts` says how often each digit occurs."""
    mask = (1 << width) - 1
    for digit in range(2):  # the second time back into `entries`
        shift = 16 + digit * width
        place = 0
        for value in range(mask + 1):
            count = counts[digit, value]
            counts[digit, value] = place
            place += count
        for entry in entries:
            value = (entry >> shift) & mask
            spare[counts[digit, value]] = entry
            counts[digit, value] += 1
        entries, spare = spare, entries
    for value in range(mask + 1):
        counts[0, value] = 0
        counts[1, value] = 0


@compiled
def _sorted_entries(ranks, members, packed, space):
    """Write the members that do not have the feature's lowest value to `entries`, sorted by rank; return how many.

    An entry is a rank and, in its lower 16 bits, what `packed` holds of the cell. Few are sorted by insertion, others by the
    digits of their ranks, which are all different.
    """
    entries, more_entries, counts, width = space.entries, space.more_entries, space.counts, space.width
    n = 0
    for place in range(len(members)):  # a loop of its own: no step waits for another, so cache misses overlap
        more_entries[place] = ranks[members[place]]
    if len(members) <= FEW:
        for place in range(len(members)):
            if more_entries[place]:
                _insert(entries, n, (more_entries[place] << 16) | np.int64(packed[members[place]]))
                n += 1
        return n
    mask = (1 << width) - 1
    for place in range(len(members)):
        rank = more_entries[place]
        if rank:
            entries[n] = (rank << 16) | np.int64(packed[members[place]])
            counts[0, rank & mask] += 1
            counts[1, rank >> width] += 1
            n += 1
    _sort_by_digits(entries[:n], more_entries[:n], counts, width)
    return n


@compiled
def _best_cut(entries, values, distinct, lowest, total, weight, squares, left, best, feature):
    """Return the better of `best` and the best cut between the sorted entries of a feature.

    `lowest` says whether some cells have the feature's lowest value; they are not among the entries. Sums of squared class
    weights are kept up to date cell by cell, in integers.
    """
    n_classes = len(total)
    for code in range(n_classes):
        left[code] = 0
    at_left = squares_left = product = 0  # the weight, and sums of left * left and left * total over the classes
    previous = np.int64(0)  # the rank before
    if lowest:
        for code in range(n_classes):
            left[code] = total[code]
        for entry in entries:
            left[(entry >> 8) & 255] -= entry & 255
        for code in range(n_classes):
            at_left += left[code]
            squares_left += left[code] * left[code]
            product += left[code] * total[code]
    bar = best.gain + weight * (1 - SLACK)
    started = lowest
    for entry in entries:
        if started:
            at_right = weight - at_left
            squares_right = squares - 2 * product + squares_left
            # gain + weight = squares_left / at_left + squares_right / at_right; whether it is worth dividing is told without
            if np.float64(squares_left * at_right + squares_right * at_left) > bar * np.float64(at_left * at_right):
                wide_left, wide_right = np.float64(at_left), np.float64(at_right)
                gini_left = 1.0 - np.float64(squares_left) / (wide_left * wide_left)
                gini_right = 1.0 - np.float64(squares_right) / (wide_right * wide_right)
                gain = -wide_right * gini_right - wide_left * gini_left
                low, high = values[previous], values[entry >> 16]
                if gain > best.gain and (distinct or high > low + TIE):
                    best = Split(feature, low, high, gini_left, gini_right, gain, at_left)
                    bar = gain + weight * (1 - SLACK)
        share, code = entry & 255, (entry >> 8) & 255
        squares_left += share * (2 * left[code] + share)
        product += share * total[code]
        left[code] += share
        at_left += share
        previous = entry >> 16
        started = True
    return best


@compiled
def _part(members, ranks, highest, spare):
    """Move the members of rank `highest` or lower to the front, keeping both parts' order; return how many they are."""
    n_front = n_back = 0
    for member in members:
        if ranks[member] <= highest:
            members[n_front] = member
            n_front += 1
        else:
            spare[n_back] = member
            n_back += 1
    for place in range(n_back):
        members[n_front + place] = spare[place]
    return n_front


@compiled
def vote(
    ranks, present, values, starts, distinct, packed, members, tested, n_classes, max_features, state, votes, space
):
    """Grow one tree and add the class shares of the leaf that each test cell falls into.

    Follows scikit-learn's depth-first builder and best splitter (sklearn/tree, BSD-3-Clause) draw by draw: the same random
    stream, the same candidate features, the same arithmetic where it decides. Nodes are not kept: the test cells are
    passed down while the tree grows.

    Args:
        ranks, present, values, starts, distinct: see `forest.RankedFeatures`.
        packed: of every cell 256 * class + weight in the bootstrap sample, uint16, shape (n_cells,).
        members: rows of the cells with a weight, uint32, ascending; overwritten.
        tested: rows of the cells that are voted on, uint32; reordered, `votes` stays in the original order.
        state: first state of the generator.
        votes: float64, shape (len(tested), n_classes).
        space: what `workspace` made for this tree.
    """
    n_features = len(ranks)
    features, constants, moved = space.features, space.constants, space.moved
    entries, spare, places, total, left = space.entries, space.spare, space.places, space.total, space.left
    stack, impurities = space.stack, space.impurities
    for place in range(len(tested)):
        places[tested[place]] = place
    stack[0] = (0, len(members), 0, len(tested), 0)
    impurities[0] = -1.0
    depth = 1
    weight_of_all = 0.0
    while depth:
        depth -= 1
        start, end, first_tested, last_tested, n_known = stack[depth]
        impurity = impurities[depth]
        for code in range(n_classes):
            total[code] = 0
        for member in members[start:end]:
            total[packed[member] >> 8] += packed[member] & 255
        weight = squares = 0
        for code in range(n_classes):
            weight += total[code]
            squares += total[code] * total[code]
        if impurity < 0:  # the root
            weight_of_all = np.float64(weight)
            impurity = 1.0 - np.float64(squares) / (np.float64(weight) * np.float64(weight))
        best = _no_split()
        n_constant = n_known
        if end - start > 1 and impurity > EPSILON:
            # `features` holds, in this order: constants drawn, constants known, constants found, undrawn, drawn features
            n_undrawn, n_visited, n_found, n_drawn = n_features, 0, 0, 0
            while n_undrawn > n_constant and (n_visited < max_features or n_visited <= n_found + n_drawn):
                n_visited += 1
                if state == 0:
                    state = 1
                state ^= (state << 13) & 0xFFFFFFFF
                state ^= state >> 17
                state ^= (state << 5) & 0xFFFFFFFF
                draw = n_drawn + (state & 0x7FFFFFFF) % (n_undrawn - n_found - n_drawn)
                if draw < n_known:
                    features[n_drawn], features[draw] = features[draw], features[n_drawn]
                    moved[n_drawn] = draw
                    n_drawn += 1
                    continue
                draw += n_found
                feature = features[draw]
                of_feature = values[starts[feature] : starts[feature + 1]]
                candidates = members[start:end]
                if len(present):
                    candidates = spare[: _counted(present[feature], candidates, spare)]
                n = _sorted_entries(ranks[feature], candidates, packed, space)
                lowest = n < end - start
                constant = n + lowest < 2
                if not (constant or distinct[feature]):
                    low = of_feature[0] if lowest else of_feature[entries[0] >> 16]
                    constant = of_feature[entries[n - 1] >> 16] <= low + TIE
                if constant:
                    features[draw], features[n_constant] = features[n_constant], feature
                    n_found += 1
                    n_constant += 1
                    continue
                n_undrawn -= 1
                features[n_undrawn], features[draw] = feature, features[n_undrawn]
                best = _best_cut(
                    entries[:n], of_feature, distinct[feature], lowest, total, weight, squares, left, best, feature
                )
            for place in range(n_drawn):  # children find the constants known here in the order they had
                features[place] = constants[place]
                features[moved[place]] = constants[moved[place]]
            for place in range(n_known, n_constant):
                constants[place] = features[place]
        if best.feature >= 0:
            share_right, share_left = (weight - best.weight) / np.float64(weight), best.weight / np.float64(weight)
            gained = impurity - share_right * best.right - share_left * best.left
            if weight / weight_of_all * gained + EPSILON < 0.0:
                best = _no_split()
        if best.feature < 0:
            for code in range(n_classes):
                if total[code]:
                    share = np.float64(total[code]) / np.float64(weight)
                    for cell in tested[first_tested:last_tested]:
                        votes[places[cell], code] += share
            continue
        threshold = np.float64(best.low) / 2.0 + np.float64(best.high) / 2.0
        of_feature = values[starts[best.feature] : starts[best.feature + 1]]
        highest, beyond = 0, len(of_feature)  # of the ranks whose value is at most the threshold
        while beyond - highest > 1:
            middle = (highest + beyond) >> 1
            if np.float64(of_feature[middle]) <= threshold:
                highest = middle
            else:
                beyond = middle
        cut = start + _part(members[start:end], ranks[best.feature], highest, spare)
        cut_tested = first_tested + _part(tested[first_tested:last_tested], ranks[best.feature], highest, spare)
        stack[depth] = (cut, end, cut_tested, last_tested, n_constant)
        impurities[depth] = best.right
        stack[depth + 1] = (start, cut, first_tested, cut_tested, n_constant)
        impurities[depth + 1] = best.left
        depth += 2
