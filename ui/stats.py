"""The statistics line under an answer: what the engine is doing, and its own figures."""

from dataclasses import replace
from html import escape

from falcon_runtime.chunk import Stats

from .update import Update

FINISHED = {
    "stop": ("done", "Finished"),
    "length": ("paused", "Stopped at the length limit"),
    "repetition": ("paused", "Stopped: it was repeating itself"),
    "time": ("paused", "Stopped at the time limit"),
    "cancelled": ("done", "Stopped"),
}
"""How a run ended: the kind, for the colour, and in words."""
FULL = ("paused", "Stopped: the model's context is full")
AGAINST_REPETITION = "Try another wording, or a higher temperature, as in the Creative preset."
CONTINUE = '<button type="button" class="continue-run">Continue</button>'
"""Presses the tab's own button of class `continue`."""
BROKEN = "This request did not get through: too many people are asking at once, or something broke. Please try again."
IDLE = '<div class="line"><span class="state" role="status">Nothing asked yet</span></div>'


def line(update: Update) -> str:
    """One update as HTML. The state alone is announced to screen readers: the figures change too often."""
    kind, words = state(update)
    figures = "".join(f'<span class="figure">{figure}</span>' for figure in _figures(update.stats))
    more = CONTINUE if can_go_on(update) else ""
    advice = f'<span class="notice">{AGAINST_REPETITION}</span>' if update.finish_reason == "repetition" else ""
    return (
        f'<div class="line {kind}"><span class="state" role="status">{escape(words)}</span>{more}{figures}'
        f"{_gauge(update.stats)}{advice}{_dropped(update.stats)}</div>"
    )


def state(update: Update) -> tuple[str, str]:
    """What is going on: its kind, for the colour, and in words."""
    stats = update.stats
    if update.error:
        return "failed", update.error
    if update.finish_reason == "length" and _is_full(update):
        return FULL
    if update.finish_reason:
        return FINISHED[update.finish_reason]
    if update.waiting_for:
        return "busy", f"Waiting for the model. {update.waiting_for}"
    if stats is None:
        return "busy", "Waiting for a free place"
    if stats.queue_position:
        return "busy", f"{stats.queue_position} ahead of you"
    if stats.generated_tokens == 0:
        share = stats.prefilled_tokens / stats.prompt_tokens if stats.prompt_tokens else 0
        return "busy", f"Reading the prompt {share:.0%}{_time_left(stats)}"
    return "busy", "Writing"


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
    return replace(last, error=BROKEN, waiting_for=None)


def _is_full(update: Update) -> bool:
    """Whether prompt and answer take all of the model's context."""
    stats = update.stats
    return stats is not None and stats.prompt_tokens + stats.generated_tokens >= stats.context > 0


def _figures(stats: Stats | None) -> list[str]:
    """The figures that there are so far, with the numbers in bold."""
    if stats is None or not stats.prompt_tokens:
        return []
    cached = f", {_number(stats.cached_tokens)} cached" if stats.cached_tokens else ""
    so_far = f"{_number(stats.prefilled_tokens)} of " if stats.prefilled_tokens < stats.prompt_tokens else ""
    figures = [f"Prefill {so_far}{_number(stats.prompt_tokens)} tokens{cached}{_rate(stats.prefill_tokens_per_second)}"]
    if stats.generated_tokens:
        figures.append(f"Decode {_number(stats.generated_tokens)}{_rate(stats.decode_tokens_per_second)}")
    figures += _drafts(stats)
    if stats.time_to_first_token_s is not None:
        figures.append(f"First token {_number(stats.time_to_first_token_s, 2)} s")
    return figures


def _drafts(stats: Stats) -> list[str]:
    """What was drafted from the text itself, and by the draft model."""
    copied, accepted = stats.drafted_tokens - stats.drafted_by_model, stats.accepted_tokens - stats.accepted_by_model
    figures = [f"Drafted {_number(copied)}, accepted {_number(accepted)}"] if copied else []
    if stats.drafted_by_model:
        words = f"drafted {_number(stats.drafted_by_model)}, accepted {_number(stats.accepted_by_model)}"
        figures.append(f"{escape(stats.draft_model)} {words}")
    return figures


def _time_left(stats: Stats) -> str:
    """How long the rest of the prompt takes, where that is worth a word."""
    unread = stats.prompt_tokens - stats.prefilled_tokens
    seconds = unread / stats.prefill_tokens_per_second if stats.prefill_tokens_per_second else 0
    return f", about {seconds:.0f} s left" if seconds >= 1 else ""


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
    words = ", ".join(f"{count:,} {kind}" for kind, count in parts.items() if count)
    bars = "".join(
        f'<i class="{kind}" style="width:{count / stats.context:.2%}"></i>' for kind, count in parts.items() if count
    )
    return (
        f'<span class="figure">Context {_number(used)} of {stats.context:,}'
        f'<span class="gauge" role="img" aria-label="Of the context: {words}" title="{words}">{bars}</span></span>'
    )


def _dropped(stats: Stats | None) -> str:
    """What no longer fits the context, said so that it is not overlooked."""
    if stats is None or not stats.dropped_messages:
        return ""
    count = stats.dropped_messages
    return (
        f'<span class="notice">The conversation is longer than the model\'s context: the {count:,} oldest '
        f"message{'s were' if count > 1 else ' was'} left out of this answer.</span>"
    )


def _rate(tokens_per_second: float | None) -> str:
    if tokens_per_second is None:
        return ""
    return f" at {_number(tokens_per_second, 1 if tokens_per_second < 10 else 0)} tok/s"


def _number(value: float, digits: int = 0) -> str:
    return f"<b>{value:,.{digits}f}</b>"
