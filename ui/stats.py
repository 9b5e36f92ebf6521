"""The statistics line under an answer: what the engine is doing, and its own figures."""

from dataclasses import replace
from html import escape

from falcon_runtime.chunk import Stats

from . import words
from .update import Update
from .words import say

KINDS = {"stop": "done", "cancelled": "done", "length": "paused", "repetition": "paused", "time": "paused"}
"""How a run ended, for the colour."""


def idle() -> str:
    """The line where nothing was asked yet."""
    return f'<div class="line"><span class="state" role="status">{say("stats.idle")}</span></div>'


def line(update: Update) -> str:
    """One update as HTML. The state alone is announced to screen readers: the figures change too often."""
    kind, told = state(update)
    # Presses the tab's own button of class `continue`.
    more = f'<button type="button" class="continue-run">{say("stats.continue")}</button>' * can_go_on(update)
    advice = f'<span class="notice">{say("stats.against_repetition")}</span>' * (update.finish_reason == "repetition")
    return (
        f'<div class="line {kind}"><span class="state" role="status">{escape(told)}</span>{more}'
        f"{_in_short(update.stats)}{advice}{_dropped(update.stats)}</div>"
    )


def state(update: Update) -> tuple[str, str]:
    """What is going on: its kind, for the colour, and in words."""
    stats = update.stats
    if update.error:
        return "failed", update.error
    if update.finish_reason == "length" and _is_full(update):
        return "paused", say("stats.full")
    if update.finish_reason == "stop" and not update.text:
        return "done", say("stats.nothing_to_add")
    if update.finish_reason:
        return KINDS[update.finish_reason], say(f"stats.finished.{update.finish_reason}")
    if update.waiting_for:
        return "busy", say("stats.waiting_for_model", status=words.status(update.waiting_for))
    if stats is None:
        return "busy", say("stats.waiting_for_place")
    if stats.queue_position:
        return "busy", say("stats.queue", count=stats.queue_position)
    if stats.generated_tokens == 0:
        share = stats.prefilled_tokens / stats.prompt_tokens if stats.prompt_tokens else 0
        return "busy", _reading(words.percent(share), _seconds_left(stats))
    return "busy", say("stats.writing")


def can_go_on(update: Update) -> bool:
    """Whether the model was stopped before its answer ended, and has room for more."""
    broken = bool(update.error and update.text)
    return (broken or update.finish_reason in ("length", "repetition", "time")) and not _is_full(update)


def ended(last: Update, stopped: bool) -> Update:
    """The last update of a run that is over. Where the run did not get to say so itself, the visitor stopped it, or
    the page could not carry it out."""
    if last.finish_reason or last.error:
        return last
    if stopped:
        return replace(last, finish_reason="cancelled", waiting_for=None)
    return replace(last, error=say("stats.broken"), waiting_for=None)


def _is_full(update: Update) -> bool:
    """Whether prompt and answer take all of the model's context."""
    stats = update.stats
    return stats is not None and stats.prompt_tokens + stats.generated_tokens >= stats.context > 0


def _in_short(stats: Stats | None) -> str:
    """How fast the answer is written, how long it is, and after how long it began: below that, on demand, all else."""
    if stats is None or not stats.prompt_tokens:
        return ""
    short = []
    if rate := stats.decode_tokens_per_second:
        short.append(say("stats.short_rate", rate=words.number(rate, 1 if rate < 10 else 0)))
    if stats.generated_tokens:
        short.append(say("message.tokens", count=stats.generated_tokens))
    if stats.time_to_first_token_s is not None:
        short.append(say("compare.seconds", seconds=words.number(stats.time_to_first_token_s, 1)))
    all_else = "".join(f'<span class="figure">{figure}</span>' for figure in _figures(stats)) + _gauge(stats)
    summary = " · ".join(short) or say("stats.details")
    return f'<details class="figures"><summary>{summary}</summary><div>{all_else}</div></details>'


def _figures(stats: Stats | None) -> list[str]:
    """The figures that there are so far, with the numbers in bold."""
    if stats is None or not stats.prompt_tokens:
        return []
    read = _number(stats.prompt_tokens)
    if stats.prefilled_tokens < stats.prompt_tokens:
        read = say("stats.part", part=_number(stats.prefilled_tokens), whole=read)
    prefill = say("stats.prefill", count=stats.prompt_tokens, tokens=read)
    if stats.cached_tokens:
        prefill = say("stats.cached", figure=prefill, cached=_number(stats.cached_tokens))
    figures = [_with_rate(prefill, stats.prefill_tokens_per_second)]
    if stats.generated_tokens:
        decode = say("stats.decode", tokens=_number(stats.generated_tokens))
        figures.append(_with_rate(decode, stats.decode_tokens_per_second))
    figures += _drafts(stats)
    if stats.time_to_first_token_s is not None:
        figures.append(say("stats.first_token", seconds=_number(stats.time_to_first_token_s, 2)))
    return figures


def _drafts(stats: Stats) -> list[str]:
    """What was drafted from the text itself, and by the draft model."""
    copied, accepted = stats.drafted_tokens - stats.drafted_by_model, stats.accepted_tokens - stats.accepted_by_model
    figures = [say("stats.drafted", drafted=_number(copied), accepted=_number(accepted))] if copied else []
    if stats.drafted_by_model:
        by_model = _number(stats.drafted_by_model), _number(stats.accepted_by_model)
        model = escape(stats.draft_model)
        figures.append(say("stats.drafted_by_model", model=model, drafted=by_model[0], accepted=by_model[1]))
    return figures


def _seconds_left(stats: Stats) -> float:
    """How long the rest of the prompt takes."""
    unread = stats.prompt_tokens - stats.prefilled_tokens
    return unread / stats.prefill_tokens_per_second if stats.prefill_tokens_per_second else 0


def _reading(share: str, seconds_left: float) -> str:
    """How much of the prompt is read, with the time that the rest takes where that is worth a word."""
    if seconds_left < 1:
        return say("stats.reading", share=share)
    return say("stats.reading_left", share=share, seconds=words.number(seconds_left))


def _gauge(stats: Stats | None) -> str:
    """How much of the context is used, and by what."""
    if stats is None or not stats.context or not stats.prompt_tokens:
        return ""
    parts = {
        "cached": min(stats.cached_tokens, stats.prefilled_tokens),
        "read": stats.prefilled_tokens - min(stats.cached_tokens, stats.prefilled_tokens),
        "written": stats.generated_tokens,
    }
    used = stats.prompt_tokens + stats.generated_tokens
    shares = say("list.comma").join(say(f"stats.context.{kind}", count=n) for kind, n in parts.items() if n)
    bars = "".join(
        f'<i class="{kind}" style="width:{count / stats.context:.2%}"></i>' for kind, count in parts.items() if count
    )
    return (
        f'<span class="figure">{say("stats.context", used=_number(used), context=stats.context)}'
        f'<span class="gauge" role="img" aria-label="{say("stats.of_context", shares=shares)}" title="{shares}">{bars}'
        "</span></span>"
    )


def _dropped(stats: Stats | None) -> str:
    """What no longer fits the context, said so that it is not overlooked."""
    if stats is None or not stats.dropped_messages:
        return ""
    return f'<span class="notice">{say("stats.dropped", count=stats.dropped_messages)}</span>'


def _with_rate(figure: str, tokens_per_second: float | None) -> str:
    if tokens_per_second is None:
        return figure
    return say("stats.rate", figure=figure, rate=_number(tokens_per_second, 1 if tokens_per_second < 10 else 0))


def _number(value: float, digits: int = 0) -> str:
    return f"<b>{words.number(value, digits)}</b>"
