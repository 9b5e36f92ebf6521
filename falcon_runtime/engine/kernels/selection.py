"""Selection of the likeliest tokens: the k-th one, or the one with which they together reach some weight.

Nothing is sorted but a few of them. A histogram over the scores of all tells in which bin the token is that is looked
for, another one over the scores of this bin tells more, and so on until there are few (a radix selection: Alabi et al.,
2012, doi:10.1145/2133803.2345676; here by value, so that near-uniform logits are spread over the bins, too).
"""

from typing import Any

import numpy as np
from numba import carray, njit

from .arithmetic import F, lower, select
from .passed import pointer
from .sampling_workspace import BINS, BLOCK, LANES, WORKSPACE

NOTHING = F(-np.inf)
"""The score of a token that is not possible."""
MOST = np.finfo(np.float32).max
LAST = BINS - 1
FEW = 32
"""So many are sorted in less time than a histogram takes."""

SANE = {"nnan", "nsz", "reassoc", "contract"}
"""What LLVM may take for granted of scores and weights: they are numbers, but may be infinite."""


@njit
def workspace_at(address: Any) -> Any:
    return carray(pointer(address), 1, WORKSPACE)[0]


@njit
def floats(w: Any, address: Any) -> Any:
    """Numbers of all tokens [blocks, BLOCK]."""
    return carray(pointer(address), (w.blocks, BLOCK), np.float32)


@njit
def flat(w: Any, address: Any) -> Any:
    """The same [blocks * BLOCK]."""
    return carray(pointer(address), w.blocks * BLOCK, np.float32)


@njit
def maxima_of(w: Any) -> Any:
    return carray(pointer(w.maxima), w.blocks, np.float32)


@njit
def order_of(w: Any) -> Any:
    return carray(pointer(w.order), w.blocks * BLOCK, np.int64)


@njit
def sort(order: Any, count: Any, numbers: Any) -> None:
    """Sorts the first `count` indices by their numbers, the largest first; equal ones stay in order. For few indices,
    or equal numbers, this is quick."""
    for j in range(1, count):
        index = order[j]
        while j > 0 and numbers[order[j - 1]] < numbers[index]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = index


@njit
def _reached(histogram: Any, amount: Any) -> Any:
    """The bin with which `amount` is reached, or else the last one that has anything; and what those before it have."""
    reached, before, total = 0, 0.0, 0.0
    for i in range(BINS):
        if histogram[i] > 0 and total < amount:
            reached, before = i, total
        total += histogram[i]
    return reached, before


@njit(error_model="numpy")
def _among(w: Any, numbers: Any, weights: Any, count: Any, amount: Any) -> Any:
    """Of the first `count` indices in `order`, the one with which the largest `numbers` together weigh `amount`, equal
    ones being in order; or else the last one."""
    order, histogram = order_of(w), carray(pointer(w.histogram), BINS, np.float64)
    while count > FEW:
        low = high = np.float64(numbers[order[0]])
        for j in range(1, count):
            low, high = min(low, numbers[order[j]]), max(high, numbers[order[j]])
        if low == high:
            break
        histogram[:] = 0
        scale = LAST / (high - low)  # In float64: whatever the two are, they are in different bins.
        for j in range(count):
            histogram[int((high - numbers[order[j]]) * scale)] += weights[order[j]]
        reached, before = _reached(histogram, amount)
        amount -= before
        kept = 0
        for j in range(count):
            if int((high - numbers[order[j]]) * scale) == reached:
                order[kept] = order[j]
                kept += 1
        count = kept
    sort(order, count, numbers)
    total, last = 0.0, 0
    for j in range(count):
        if total < amount:
            last = j
        total += weights[order[j]]
    return order[last]


@njit(fastmath={"nnan"}, error_model="numpy")
def _fill(w: Any, weights_at: Any, highest: Any, low: Any) -> None:
    """Makes the histogram of the scores from the highest down to `low`. The last bin is for all below, which need not
    be in its sum."""
    scores, weights, maxima = floats(w, w.scores), floats(w, weights_at), maxima_of(w)
    bins = carray(pointer(w.bins), (w.blocks, BLOCK), np.uint16)
    histogram = carray(pointer(w.histogram), (LANES, BINS), np.float64)
    histogram[:] = 0
    scale = F(F(LAST - 1) / min(max(F(highest - low), F(1e-30)), F(1e30)))  # In these bounds all below is finite.
    for b in range(w.blocks):
        if maxima[b] >= low:
            for i in range(BLOCK):
                bins[b, i] = np.uint16(np.int32(lower(F(F(highest - scores[b, i]) * scale), F(LAST))))
            for i in range(BLOCK):
                histogram[i % LANES, bins[b, i]] += weights[b, i]
    for lane in range(1, LANES):
        for i in range(BINS):
            histogram[0, i] += histogram[lane, i]


@njit
def _gather(w: Any, weights_at: Any, low: Any, lowest: Any, reached: Any) -> Any:
    """Puts the tokens of a bin that weigh anything, with scores down to `lowest`, into `order`; returns how many."""
    bins, order, maxima = carray(pointer(w.bins), (w.blocks, BLOCK), np.uint16), order_of(w), maxima_of(w)
    scores, weights, count = floats(w, w.scores), floats(w, weights_at), 0
    for b in range(w.blocks):
        if maxima[b] < (lowest if reached == LAST else low):
            continue
        if maxima[b] < low:
            bins[b, :] = LAST
        found = np.uint16(0)
        for i in range(BLOCK):
            found += np.uint16(bins[b, i] == reached)
        if found:
            for i in range(BLOCK):
                if bins[b, i] == reached and scores[b, i] >= lowest and weights[b, i] > 0:
                    order[count] = b * BLOCK + i
                    count += 1
    return count


@njit
def leading(w: Any, weights_at: Any, highest: Any, low: Any, lowest: Any, amount: Any) -> Any:
    """Of the tokens with scores down to `lowest`, the one with which the likeliest together weigh `amount`, of equally
    likely ones the first coming first; or else the last one. It is found soon if its score is not below `low`."""
    _fill(w, weights_at, highest, low)
    histogram = carray(pointer(w.histogram), BINS, np.float64)
    reached, before = _reached(histogram, amount)
    count = _gather(w, weights_at, low, lowest, reached)
    if not count:  # Nothing in the last bin is possible: all together weigh less.
        histogram[LAST] = 0
        reached, before = _reached(histogram, amount)
        count = _gather(w, weights_at, low, lowest, reached)
    return _among(w, flat(w, w.scores), flat(w, weights_at), count, amount - before)


@njit(fastmath=SANE, error_model="numpy")
def least_of(w: Any) -> Any:
    """The lowest score of a possible token."""
    scores, least = flat(w, w.scores), MOST
    for i in range(w.blocks * BLOCK):
        least = lower(least, select(scores[i] > NOTHING, scores[i], MOST))
    return least


@njit
def likeliest(w: Any, highest: Any, count: Any) -> Any:
    """The last of the `count` likeliest tokens, or of all that are possible."""
    order, maxima, there = order_of(w), maxima_of(w), 0
    if count <= w.blocks:
        for b in range(w.blocks):
            if maxima[b] > NOTHING:
                order[there] = b
                there += 1
    if 0 < count <= there:
        # The maxima of `count` blocks, so at least as many scores, reach the count-th largest of the maxima.
        low = maxima[_among(w, maxima, flat(w, w.ones), there, float(count))]
        return leading(w, w.ones, highest, low, low, float(count))
    least = least_of(w)
    return leading(w, w.ones, highest, least, least, float(count))
