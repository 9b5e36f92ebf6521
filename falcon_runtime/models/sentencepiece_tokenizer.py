"""A SentencePiece vocabulary as a `tokenizers.Tokenizer` that gives the ids of `SentencePieceProcessor.encode`.

transformers' own reading of a tokenizer.model is not used: it puts no space before text and adds no BOS token. What
still differs here: which of two equally likely unigram splits is taken, and that no space is put before a user-defined
piece at the very beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ..errors import ConversionFailed
from ..system.files import read_bytes
from .tokenizer_files import MODEL_BYTES

SPACE = "▁"
LONGEST_PIECE, MAX_CHARACTERS = 1000, 8_000_000
"""Of a BPE vocabulary: each is looked at in every way to make it of two others. Real ones have three millions."""


class Kind(IntEnum):
    """Kinds of piece, numbered as in `sentencepiece_model.proto` and in GGUF's `tokenizer.ggml.token_type`."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """The pieces, id by id, and how text is prepared for them."""

    pieces: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    unigram: bool
    """Whether text is split into the likeliest pieces, or else merged by score (BPE)."""
    prefix: Literal["first", "always", "never"]
    """Where a space is put: at the beginning of text, there and after every token that is found whole, or nowhere."""
    normalization: Sequence[normalizers.Normalizer] = ()
    """What is done to text first."""
    squeeze_spaces: bool = False
    """Whether several spaces become one, and none at the ends."""


def read_model(path: Path, prefix: Literal["first", "always"]) -> tuple[Vocabulary, dict[str, str]]:
    """The vocabulary and the special tokens (`bos_token`, ...) of a `tokenizer.model`.

    `prefix` holds if the model asks for any. Errors: ConversionFailed where it is no SentencePiece model, or one of a
    type other than unigram and BPE.
    """
    from sentencepiece import sentencepiece_model_pb2  # With protobuf; few checkpoints need either.

    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        model.ParseFromString(read_bytes(path, MODEL_BYTES))
    except Exception as error:  # protobuf's implementations raise different kinds
        raise ConversionFailed(f"{path} is not a SentencePiece model, or damaged: download it again.") from error
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    known = trainer.model_type in (trainer.UNIGRAM, trainer.BPE) and not trainer.treat_whitespace_as_suffix
    if not model.pieces or not known:
        raise ConversionFailed(
            f"{path} is not a SentencePiece model of type unigram or BPE: save the tokenizer as tokenizer.json."
        )
    ids = {"bos": trainer.bos_id, "eos": trainer.eos_id, "unk": trainer.unk_id, "pad": trainer.pad_id}
    special = {f"{name}_token": model.pieces[i].piece for name, i in ids.items() if 0 <= i < len(model.pieces)}
    vocabulary = Vocabulary(
        pieces=[piece.piece for piece in model.pieces],
        scores=[piece.score for piece in model.pieces],
        kinds=[piece.type for piece in model.pieces],
        unigram=trainer.model_type == trainer.UNIGRAM,
        prefix=prefix if normalizer.add_dummy_prefix else "never",
        normalization=_normalization(normalizer.name, normalizer.precompiled_charsmap),
        squeeze_spaces=normalizer.remove_extra_whitespaces,
    )
    return vocabulary, special


def build(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer of `vocabulary`, which adds no token at the beginning or end."""
    tokenizer = Tokenizer(_unigram(vocabulary) if vocabulary.unigram else _bpe(vocabulary))
    steps = list(vocabulary.normalization)
    if vocabulary.squeeze_spaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(rf"[ {SPACE}]+\z"), "")]
        if vocabulary.prefix == "never":
            steps.append(normalizers.Replace(Regex(r"\A "), ""))
    else:
        steps.append(normalizers.Replace(" ", SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    splits: list[pre_tokenizers.PreTokenizer] = [
        # Puts a space before text that does not begin with one. Where spaces are squeezed, one that is there already
        # is that space. Where they are not, they have become SPACE above, and every text gets one more.
        pre_tokenizers.Metaspace(replacement=" ", prepend_scheme=vocabulary.prefix, split=False),
        pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=False),
    ]
    if vocabulary.unigram:
        # "<0x0A>" written out in text is six characters, not the piece that stands for the byte.
        splits.append(pre_tokenizers.Split(Regex("(?<=<)(?=0x[0-9A-F]{2}>)"), "isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    strip = [] if vocabulary.prefix == "never" else [decoders.Strip(content=" ", left=1)]
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    pieces = list(zip(vocabulary.pieces, vocabulary.kinds, strict=True))
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p, kind in pieces if kind == Kind.CONTROL])
    # User-defined pieces are looked for in normalized text, unless normalization would make something else of them.
    # Those part the text before it is normalized, and squeezed spaces beside them are lost.
    normalize = tokenizer.normalizer.normalize_str
    tokenizer.add_tokens(
        [AddedToken(p, normalized=normalize(p) == p) for p, kind in pieces if kind == Kind.USER_DEFINED]
    )
    return tokenizer


def _normalization(name: str, rules: bytes) -> list[normalizers.Normalizer]:
    """Compiled rules as `tokenizers` applies them: one to each grapheme. `name` tells SentencePiece's default ones."""
    if not rules:
        return []
    # What takes more than one rule to a grapheme is done before.
    several = [normalizers.NFC(), normalizers.Replace("\r\n", "\n\n")] if name.startswith("nmt_nfkc") else []
    return [*several, normalizers.Precompiled(rules)]


def _unigram(vocabulary: Vocabulary) -> models.Unigram:
    pieces = list(zip(vocabulary.pieces, vocabulary.scores, strict=True))
    return models.Unigram(pieces, unk_id=_unknown(vocabulary), byte_fallback=Kind.BYTE in vocabulary.kinds)


def _bpe(vocabulary: Vocabulary) -> models.BPE:
    """BPE whose merges are all the ways to make a piece of two others, those of the highest score first."""
    ids = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    pieces = zip(vocabulary.pieces, vocabulary.scores, vocabulary.kinds, strict=True)
    scores = {piece: score for piece, score, kind in pieces if kind in (Kind.NORMAL, Kind.UNUSED)}
    if sum(map(len, scores)) > MAX_CHARACTERS or max(map(len, scores), default=0) > LONGEST_PIECE:
        raise ConversionFailed("The tokenizer has pieces that are too long to be words. Download the checkpoint again.")
    merges = [
        (-score, ids[piece[:i]], ids[piece[i:]], (piece[:i], piece[i:]))
        for piece, score in scores.items()
        for i in range(1, len(piece))
        if piece[:i] in scores and piece[i:] in scores
    ]
    unknown = _unknown(vocabulary)
    return models.BPE(
        vocab=ids,
        merges=[pair for *_, pair in sorted(merges)],
        unk_token=None if unknown is None else vocabulary.pieces[unknown],
        fuse_unk=True,
        byte_fallback=Kind.BYTE in vocabulary.kinds,
    )


def _unknown(vocabulary: Vocabulary) -> int | None:
    return next((i for i, kind in enumerate(vocabulary.kinds) if kind == Kind.UNKNOWN), None)
