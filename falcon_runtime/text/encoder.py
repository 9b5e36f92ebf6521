"""Text to token ids, such that what people write stays text.

A tokenizer makes a control token (where a text begins, whose turn it is, where an answer ends) of its spelling wherever
that stands, so a message could forge other people's turns. Here a control token has a seal instead: a spelling that
nobody can guess. What a chat template writes is sealed; everything else is text, whatever it spells.
"""

import re
import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from tokenizers import AddedToken, Tokenizer

from ..system.unicode import whole

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

OPEN, CLOSE = "\ue000", "\ue001"
"""Around what stands for something else. Private use: no normalizer and no template alters them, nor digits."""


class Encoder:
    """A tokenizer whose control tokens (its special ones) come of seals alone.

    It shares the vocabulary of `tokenizer`, so it costs next to nothing. For text without control tokens its ids are
    those of `tokenizer.encode`; a text with seals has the ids that `tokenizer.encode` gives it with the control tokens
    spelled out. Seals are secret and differ from encoder to encoder: they must not be shown to anybody.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase"):
        backend = tokenizer.backend_tokenizer
        added = backend.get_added_tokens_decoder()
        self.tokenizer = tokenizer
        self.control_ids = frozenset(id for id, token in added.items() if token.special)
        self.seal_mark = f"{OPEN}{secrets.randbits(64)}."
        """What every seal begins with."""
        self._model = backend.model
        seals = {id: f"{self.seal_mark}{id}{CLOSE}" for id in self.control_ids}
        self._seals = {added[id].content: seal for id, seal in seals.items()}
        self._sealed_controls: dict[str, tuple[str, int]] = {
            seal: (added[id].content, id) for id, seal in seals.items()
        }
        self._controls = any_of(self._seals)
        self._sealed = re.compile(f"({re.escape(self.seal_mark)}\\d+{CLOSE})")

        self._backend = Tokenizer(self._model)
        # Properties of a tokenizer that has none of them can be read as None, but not be set to it.
        for part in ("normalizer", "pre_tokenizer", "post_processor"):
            if (value := getattr(backend, part)) is not None:
                setattr(self._backend, part, value)
        names = {id: seals.get(id, token.content) for id, token in added.items()}
        self._backend.add_tokens([_named(names[id], token) for id, token in sorted(added.items())])
        renumbered = zip(map(self._backend.token_to_id, names.values()), names, strict=True)
        self._originals: dict[int | None, tuple[int, ...]] = {new: (id,) for new, id in renumbered}
        """The ids that tokens of other names, or with other ids, have in `tokenizer`."""
        self._seal_ids = frozenset(self._backend.token_to_id(seal) for seal in seals.values())
        unknown = {tokenizer.unk_token, getattr(self._model, "unk_token", None)}
        self._in_vocabulary = frozenset(
            id
            for id in self.control_ids
            if added[id].content not in unknown and self._model.token_to_id(added[id].content) == id
        )
        """Control tokens that the model of the tokenizer might make itself of their spelling, as Unigram does."""

        probe = self._backend.encode("a")
        put_before = takewhile(lambda pair: pair[1], zip(probe.ids, probe.special_tokens_mask, strict=True))
        self.prefix = [id for id, _ in put_before]
        """The ids that the tokenizer puts before a text, BOS as a rule. What it puts after one is left out: a text
        that is to be continued has no end."""

    @property
    def chat_template(self) -> str:
        """Empty where the tokenizer has none; of several, the default one."""
        template: Any = self.tokenizer.chat_template
        return str((template.get("default", "") if isinstance(template, dict) else template) or "")

    def __call__(self, text: str) -> list[int]:
        """The ids of a text, seals as the control tokens that they stand for, without `prefix`."""
        text = whole(text)
        ids = self._encode(text)
        if sum(map(self._seal_ids.__contains__, ids)) != text.count(self.seal_mark):
            # Some normalizers ("▁" before each text) hide added tokens that stand directly after others.
            ids = [id for part in self._sealed.split(text) for id in self._encode(part)]
        originals = self._originals
        if made := self._in_vocabulary.intersection(ids):
            originals = originals | {id: self._in_letters(id) for id in made}
        return [original for id in ids for original in originals.get(id, (id,))]

    def spells_control(self, text: str) -> bool:
        return self._controls.search(text) is not None

    def controls(self, text: str) -> Counter[str]:
        """How often each control token is spelled in a text."""
        return Counter(self._controls.findall(text))

    def seal(self, text: str) -> str:
        """The text with its control tokens sealed: for what a chat template wrote."""
        return self._controls.sub(lambda match: self._seals[match[0]], text)

    def first_control(self, text: str) -> str:
        """The first seal in a text; empty where there is none."""
        found = self._sealed.search(text)
        return found[0] if found else ""

    def unsealed(self, texts: Sequence[str]) -> tuple[list[str], dict[str, int]]:
        """Texts with the control tokens spelled out that were sealed, and these tokens' ids."""
        controls: dict[str, int] = {}

        def spelled(seal: re.Match[str]) -> str:
            control, id = self._sealed_controls[seal[0]]
            controls[control] = id
            return control

        return [self._sealed.sub(spelled, text) for text in texts], controls

    def _encode(self, text: str) -> list[int]:
        (encoding,) = self._backend.encode_batch_fast([text], add_special_tokens=False)
        return list(encoding.ids)

    def _in_letters(self, id: int) -> tuple[int, ...]:
        """The spelling of a token in the tokens of its characters."""
        return tuple(token.id for letter in self._model.id_to_token(id) for token in self._model.tokenize(letter))


def _named(name: str, token: AddedToken) -> AddedToken:
    """An added token that is found as `token` is, by another name."""
    return AddedToken(
        name,
        lstrip=token.lstrip,
        rstrip=token.rstrip,
        single_word=token.single_word,
        normalized=token.normalized,
    )


def any_of(words: Iterable[str]) -> re.Pattern[str]:
    """What finds the leftmost, longest of some words. As a trie: with thousands of words (Falcon3 has 2,000 control
    tokens), trying one after another would take seconds for a text full of "<"."""

    def tails(words: list[str]) -> str:
        branches: dict[str, list[str]] = {}
        for word in filter(None, words):
            branches.setdefault(word[0], []).append(word)
        choices = [
            re.escape(group[0]) if len(group) == 1 else re.escape(first) + tails([word[1:] for word in group])
            for first, group in branches.items()
        ]
        return f"(?:{'|'.join(choices)})" + "?" * ("" in words)

    found = sorted(filter(None, words))
    return re.compile(tails(found) if found else "(?!)")
