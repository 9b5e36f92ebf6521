"""Text as people and programs send it."""


def whole(text: str) -> str:
    """The text in which halves of surrogate pairs, which JSON can spell and UTF-8 cannot, have become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
