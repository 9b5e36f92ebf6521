"""What Compare says of two answers."""

from ui.compare import differing


def test_differing_words_are_marked() -> None:
    shown = differing("The sky is very blue today.", "The sky is quite blue today.")
    assert "The sky is <del>very</del><ins>quite</ins> blue today." in shown
    assert differing("The same.", "The same.") == "<p>Both wrote the same text.</p>"


def test_texts_with_little_in_common_are_not_mixed() -> None:
    shown = differing("Leaves fall since trees save water.", "Once upon a time, a king had three daughters.")
    assert "of their words" in shown
    assert "<del>" not in shown


def test_what_a_model_writes_is_text_and_no_html() -> None:
    shown = differing("It says <b>hello</b> to all of us.", "It says <i>hello</i> to all of us.")
    assert "<b>" not in shown
    assert "<i>" not in shown
