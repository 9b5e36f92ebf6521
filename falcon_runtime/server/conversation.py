"""Which conversation a request belongs to, for whoever leads it where its beginning is in the KV cache."""

import hashlib
import json
from itertools import takewhile


def conversation_id(body: bytes) -> str:
    """The same for all turns of one conversation: a hash of what stands before the model's first answer. Empty for a
    body that is none of a conversation."""
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError):
        return ""  # The API says what is wrong with it.
    if not isinstance(asked, dict):
        return ""
    told = asked.get("messages") or asked.get("input")
    items = [{"role": "user", "content": told}] if isinstance(told, str) else told
    beginning = list(takewhile(_is_asked, items)) if isinstance(items, list) else []
    if not beginning:
        return ""
    return hashlib.sha256(json.dumps([asked.get("instructions"), beginning]).encode()).hexdigest()


def _is_asked(item: object) -> bool:
    return isinstance(item, dict) and item.get("role") in ("system", "developer", "user")
