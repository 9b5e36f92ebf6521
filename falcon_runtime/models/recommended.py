"""The sampling that a checkpoint recommends: of its settings what this project knows too, and what makes sense."""

from collections.abc import Mapping
from typing import Any

from ..errors import InvalidRequest
from ..sampling import SamplingParams

FIELDS = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_new_tokens")
"""Called alike in generation_config.json and here."""
GGUF_KEYS = {
    "general.sampling.temp": "temperature",
    "general.sampling.top_k": "top_k",
    "general.sampling.top_p": "top_p",
    "general.sampling.min_p": "min_p",
    "general.sampling.penalty_repeat": "repetition_penalty",
}
"""What the fields are called in GGUF's metadata (`Keys.General` in gguf's constants.py)."""
SHORTEST = 16
"""Fewer new tokens are the limit of somebody's test, and no recommendation."""


def recommended_sampling(settings: Mapping[str, Any], context: int) -> dict[str, float | int]:
    """The fields of `SamplingParams` that generation_config.json, read as `settings`, recommends for a model with a
    context of so many tokens. A value of another type or out of bounds is left out."""
    found = {name: settings[name] for name in FIELDS if _is_number(settings.get(name)) and _in_bounds(name, settings)}
    if not SHORTEST <= found.get("max_new_tokens", 0) < context:
        found.pop("max_new_tokens", None)
    if settings.get("do_sample") is False:
        found["temperature"] = 0
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _in_bounds(name: str, settings: Mapping[str, Any]) -> bool:
    try:
        SamplingParams(**{name: settings[name]})
    except InvalidRequest:
        return False
    return True
