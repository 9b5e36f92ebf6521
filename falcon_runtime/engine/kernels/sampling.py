"""Sampling: the passes over a vocabulary, which may have 131,072 tokens, from logits to the one that is chosen.

There are four passes: `_take` copies the logits, of which those that are not allowed become -inf; once bias and
penalties have changed a few, `_survey` finds the highest in each block; `_weigh` makes weights of scores, relative to
the likeliest token's; and `_settle` leaves out what top_p and min_p leave out. A block in which no score is high enough
is passed over. The loops over a block have a fixed length and no branches, so that LLVM makes vectors of them.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

from .arithmetic import LOG2, LOWEST, F, below, exp2, higher, select
from .passed import pointer
from .sampling_workspace import BIAS, BLOCK, OPTIONS, SEEN
from .selection import (
    MOST,
    NOTHING,
    SANE,
    flat,
    floats,
    leading,
    least_of,
    likeliest,
    maxima_of,
    order_of,
    sort,
    workspace_at,
)
from .vectors import FLOATS, LANES, SHORT, Code, constant

COLDEST = 1e-6
"""Temperatures below choose as this one does: float32 cannot divide by all of them."""


@intrinsic
def _take_vector(typing: Any, logits: Any, allowed: Any, scores: Any) -> Any:
    """Makes LANES scores of logits, both given by their address, with the bits of those that are allowed."""

    def write(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        code, (logits, allowed, scores) = Code(builder), args
        x, nothing = code.load(logits, FLOATS), constant(FLOATS, -math.inf)
        bits = builder.bitcast(builder.trunc(allowed, SHORT), ir.VectorType(ir.IntType(1), LANES))
        possible = builder.and_(builder.fcmp_ordered(">", x, nothing), bits)  # Not what is no number.
        finite = code.call("llvm.minnum.v16f32", FLOATS, x, constant(FLOATS, float(MOST)))
        code.store(builder.select(possible, finite, nothing), scores)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 3), write


@njit
def _take(w: Any, logits_at: Any, allowed_at: Any) -> None:
    """Makes scores of logits. What is not allowed or no number becomes -inf, and nothing becomes +inf. `allowed_at` is
    the address of the mask, 0 if there is none."""
    allowed = carray(pointer(allowed_at), (w.tokens + LANES - 1) // LANES, np.uint16)
    whole = w.tokens // LANES
    for i in range(whole):
        bits = allowed[i] if allowed_at else np.uint16(0xFFFF)
        _take_vector(logits_at + i * LANES * 4, np.int64(bits), w.scores + i * LANES * 4)
    logits, scores = carray(pointer(logits_at), w.tokens, np.float32), flat(w, w.scores)
    for i in range(whole * LANES, w.blocks * BLOCK):
        scores[i] = NOTHING
        if i < w.tokens and logits[i] > NOTHING and (not allowed_at or allowed[whole] >> (i % LANES) & 1):
            scores[i] = min(logits[i], MOST)


@njit(error_model="numpy")
def _adjust(w: Any, o: Any) -> None:
    """Adds the bias, then applies the penalties. Tokens that the vocabulary does not have are passed over.

    Sources: OpenAI's API reference for logit_bias and, as in vLLM's apply_penalties, for presence_penalty and
    frequency_penalty; CTRL (Keskar et al., 2019) for repetition_penalty, as in transformers'
    RepetitionPenaltyLogitsProcessor.
    """
    scores = carray(pointer(w.scores), w.tokens, np.float32)
    bias = carray(pointer(o.bias), o.biased, BIAS)
    for i in range(o.biased):
        if bias[i].token < w.tokens:
            scores[bias[i].token] = F(scores[bias[i].token] + F(bias[i].value))
    text, repetition = carray(pointer(o.text), o.seen, SEEN), F(o.repetition_penalty)
    for i in range(o.seen):
        token, count = text[i].token, text[i].count
        if token < w.tokens:
            x = scores[token]
            x = F(x / repetition) if x > 0 else F(x * repetition)
            if count:
                x = F(x - F(o.presence_penalty + o.frequency_penalty * count))
            scores[token] = min(x, MOST)


@njit(fastmath=SANE, error_model="numpy")
def _survey(w: Any) -> Any:
    """Finds the highest score of each block, and returns the highest of all: -inf if no token is possible."""
    scores, maxima, highest = floats(w, w.scores), maxima_of(w), NOTHING
    for b in range(w.blocks):
        top = NOTHING
        for i in range(BLOCK):
            top = higher(top, scores[b, i])
        maxima[b], highest = top, higher(highest, top)
    return highest


@njit
def _bound(score: Any, last: Any, block: Any) -> Any:
    """What the scores in a block must exceed in order not to come after the token `last`, which has `score`."""
    return below(score) if last >= block * BLOCK else score


@njit
def _cut(scores: Any, weights: Any, score: Any, last: Any, block: Any) -> None:
    """In the block in which `last` is: weighs tokens 0 that are as likely, but come after it."""
    if block == last // BLOCK:
        for i in range(last % BLOCK + 1, BLOCK):
            if scores[i] == score:
                weights[i] = 0


@njit(fastmath=SANE, error_model="numpy")
def _weigh(w: Any, highest: Any, scale: Any, score: Any, last: Any) -> Any:
    """Makes weights of scores, 2 to the power of the distance from the highest times `scale`, but 0 after the token
    `last`, which has `score`. Returns their sum."""
    scores, weights, maxima = floats(w, w.scores), floats(w, w.weights), maxima_of(w)
    total = 0.0
    for b in range(w.blocks):
        if maxima[b] >= score:
            bound = _bound(score, last, b)
            for i in range(BLOCK):
                x = scores[b, i]
                power = F(F(x - highest) * scale)
                weights[b, i] = select((x > bound) & (power > LOWEST), exp2(power), F(0))
            _cut(scores[b], weights[b], score, last, b)
            for i in range(BLOCK):
                total += weights[b, i]
    return total


@njit(fastmath=SANE, error_model="numpy")
def _settle(w: Any, score: Any, last: Any, least: Any) -> None:
    """Puts the weights where the scores were, 0 after the token that is `last` and where they are below `least`; and
    sums up those of each block."""
    scores, weights, maxima = floats(w, w.scores), floats(w, w.weights), maxima_of(w)
    sums = carray(pointer(w.sums), w.blocks, np.float64)
    for b in range(w.blocks):
        total = 0.0
        if maxima[b] >= score:
            bound = _bound(score, last, b)
            _cut(scores[b], weights[b], score, last, b)
            for i in range(BLOCK):
                x, weight = scores[b, i], weights[b, i]
                scores[b, i] = select((x > bound) & (weight >= least), weight, F(0))
            for i in range(BLOCK):
                total += scores[b, i]
        sums[b] = total


@njit
def _first(w: Any, highest: Any) -> Any:
    """The first token with the highest score."""
    scores, maxima = floats(w, w.scores), maxima_of(w)
    for b in range(w.blocks):
        if maxima[b] == highest:
            for i in range(BLOCK):
                if scores[b, i] == highest:
                    return b * BLOCK + i
    return -1


@njit
def _gather_likeliest(w: Any, highest: Any, count: Any) -> None:
    """Puts the `count` likeliest tokens into `order`, the likeliest first."""
    scores, maxima, order, found = flat(w, w.scores), maxima_of(w), order_of(w), 0
    last = likeliest(w, highest, count)
    lowest = scores[last]
    for b in range(w.blocks):
        if maxima[b] >= lowest:
            for i in range(b * BLOCK, b * BLOCK + BLOCK):
                if scores[i] > lowest or (scores[i] == lowest and i <= last):
                    order[found] = i
                    found += 1
    sort(order, found, scores)


@njit
def _drawn(w: Any, uniform: Any) -> Any:
    """The token with which the cumulative sum of the weights passes `uniform` of their total."""
    sums, weights = carray(pointer(w.sums), w.blocks, np.float64), floats(w, w.scores)
    amount, block, token = 0.0, 0, 0
    for b in range(w.blocks):
        amount += sums[b]
    amount *= uniform
    total = 0.0
    for b in range(w.blocks):
        if sums[b] > 0:
            block = b
            if total + sums[b] > amount:
                break
            total += sums[b]
    # Sums in another order may differ in the last bits: then it is the last one that there is.
    if total + sums[block] <= amount:
        total -= sums[block]
    for i in range(BLOCK):
        if weights[block, i] > 0:
            token = block * BLOCK + i
            total += weights[block, i]
            if total > amount:
                break
    return token


def sampling() -> Mapping[str, Any]:
    """The functions that `engine/sampler.py` calls, which says what they return. Addresses of a WORKSPACE, OPTIONS, the
    logits, and of the mask, or 0."""

    @cfunc(types.int64(*[types.int64] * 4))
    def best(address: Any, options: Any, logits: Any, allowed: Any) -> Any:
        w = workspace_at(address)
        _take(w, logits, allowed)
        _adjust(w, carray(pointer(options), 1, OPTIONS)[0])
        highest = _survey(w)
        return _first(w, highest) if highest > NOTHING else -1

    @cfunc(types.int64(*[types.int64] * 4), error_model="numpy")
    def weigh(address: Any, options: Any, logits: Any, allowed: Any) -> Any:
        w, o = workspace_at(address), carray(pointer(options), 1, OPTIONS)[0]
        _take(w, logits, allowed)
        _adjust(w, o)
        highest = _survey(w)
        if highest == NOTHING:
            return 0
        scores, count, score, last = flat(w, w.scores), w.tokens, F(-MOST), w.tokens  # All that are possible.
        if 0 < o.top_k < w.tokens:  # Before the temperature, which does not change the order.
            count, last = o.top_k, likeliest(w, highest, o.top_k)
            score = scores[last]
        temperature = max(o.temperature, COLDEST)
        total = _weigh(w, highest, F(1 / (LOG2 * temperature)), score, last)
        if o.top_p < 1:
            # What weighs less than the mean of what may be left out can be left out all together.
            low = F(highest + temperature * math.log((1 - o.top_p) * total / count))
            low = min(max(low, score if last < w.tokens else least_of(w)), highest)
            last = leading(w, w.weights, highest, low, score, o.top_p * total)
            score = scores[last]
        _settle(w, score, last, F(o.min_p))
        return 1

    @cfunc(types.int64(types.int64, types.float64))
    def draw(address: Any, uniform: Any) -> Any:
        return _drawn(workspace_at(address), uniform)

    @cfunc(types.float64(*[types.int64] * 3))
    def log_total(address: Any, logits: Any, count: Any) -> Any:
        w = workspace_at(address)
        order_of(w)[:count] = -1
        _take(w, logits, 0)
        highest = _survey(w)
        if highest == NOTHING:
            return math.nan
        if count:
            _gather_likeliest(w, highest, count)
        return highest + math.log(_weigh(w, highest, F(1 / LOG2), F(-MOST), w.tokens))

    return {"best": best, "weigh": weigh, "draw": draw, "log_total": log_total}
