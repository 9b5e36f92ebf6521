"""A SentencePiece vocabulary as a `tokenizers.Tokenizer` that gives the ids `SentencePieceProcessor.encode` gives.

transformers' LlamaTokenizer is not used: it takes every model for BPE, whatever its type, drops its normalization,
and swallows one of several leading spaces.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ..errors import ConversionFailed

SPACE = "▁"


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
    """What a SentencePiece model says: its pieces, id by id, and how it prepares text."""

    pieces: Sequence[str]
    scores: Sequence[float]
    kinds: Sequence[int]
    unigram: bool
    """Split by the likeliest pieces; otherwise BPE, merging what gives the piece of highest score."""
    prefix: Literal["first", "always", "never"]
    """Where a space is put before text: at its beginning, there and after every special token, or nowhere."""
    charsmap: bytes = b""
    """Compiled normalization rules (NFKC by default); none if empty."""
    squeeze_spaces: bool = False
    """Whether several spaces become one and those at both ends none."""


def read_model(path: Path, prefix: Literal["first", "always"]) -> tuple[Vocabulary, dict[str, str]]:
    """Vocabulary and special tokens (`bos_token`, ...) of a `tokenizer.model`; `prefix` is used if it wants any.

    Errors: ConversionFailed where it is no SentencePiece model, or of a kind other than unigram and BPE.
    """
    from sentencepiece import sentencepiece_model_pb2  # Needs protobuf; few checkpoints need either.

    model = sentencepiece_model_pb2.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own kinds differ between its implementations
        raise ConversionFailed(f"{path} is not a SentencePiece model, or damaged: download it again.") from error
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    if not model.pieces or trainer.model_type not in (trainer.UNIGRAM, trainer.BPE) or trainer.treat_whitespace_as_suffix:
        raise ConversionFailed(
            f"{path} is not a SentencePiece model that splits text into unigram or BPE pieces: save the tokenizer as "
            "tokenizer.json with transformers."
        )
    ids = {"bos": trainer.bos_id, "eos": trainer.eos_id, "unk": trainer.unk_id, "pad": trainer.pad_id}
    special = {f"{name}_token": model.pieces[i].piece for name, i in ids.items() if 0 <= i < len(model.pieces)}
    vocabulary = Vocabulary(
        pieces=[piece.piece for piece in model.pieces],
        scores=[piece.score for piece in model.pieces],
        kinds=[piece.type for piece in model.pieces],
        unigram=trainer.model_type == trainer.UNIGRAM,
        prefix=prefix if normalizer.add_dummy_prefix else "never",
        charsmap=normalizer.precompiled_charsmap,
        squeeze_spaces=normalizer.remove_extra_whitespaces,
    )
    return vocabulary, special


def build(vocabulary: Vocabulary) -> Tokenizer:
    """The tokenizer of `vocabulary`, without any token added at the beginning or end."""
    tokenizer = Tokenizer(_unigram(vocabulary) if vocabulary.unigram else _bpe(vocabulary))
    steps = [normalizers.NFC(), normalizers.Precompiled(vocabulary.charsmap)] if vocabulary.charsmap else []
    if vocabulary.squeeze_spaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(f"[ {SPACE}]+$"), "")]
        if vocabulary.prefix == "never":
            steps.append(normalizers.Replace(Regex("^ "), ""))
    else:
        steps.append(normalizers.Replace(" ", SPACE))
    tokenizer.normalizer = normalizers.Sequence(steps)
    splits = [
            pre_tokenizers.Metaspace(replacement=" ", prepend_scheme=vocabulary.prefix, split=False),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="never", split=False),
        ]
    if vocabulary.unigram:
        # "<0x0A>" written out in text is six characters, not the piece that stands for the byte.
        splits.append(pre_tokenizers.Split(Regex("(?<=<)(?=0x[0-9A-F]{2}>)"), "isolated"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits)
    tail = [] if vocabulary.prefix == "never" else [decoders.Strip(content=" ", left=1)]
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *tail]
    )
    pieces = list(zip(vocabulary.pieces, vocabulary.kinds, strict=True))
    # A tokenizer that squeezes spaces must see the text on both sides of a user-defined piece at once, so it looks
    # for such pieces after normalization.
    tokenizer.add_tokens(
        [AddedToken(p, normalized=vocabulary.squeeze_spaces) for p, kind in pieces if kind == Kind.USER_DEFINED]
    )
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p, kind in pieces if kind == Kind.CONTROL])
    return tokenizer


def _unigram(vocabulary: Vocabulary) -> models.Unigram:
    return models.Unigram(
        list(zip(vocabulary.pieces, vocabulary.scores, strict=True)),
        unk_id=list(vocabulary.kinds).index(Kind.UNKNOWN),
        byte_fallback=Kind.BYTE in vocabulary.kinds,
    )


def _bpe(vocabulary: Vocabulary) -> models.BPE:
    ids = {piece: i for i, piece in enumerate(vocabulary.pieces)}
    parts = {p for p, kind in zip(vocabulary.pieces, vocabulary.kinds, strict=True) if kind in (Kind.NORMAL, Kind.UNUSED)}
    merges = []
    for piece, score in zip(vocabulary.pieces, vocabulary.scores, strict=True):
        if piece in parts:
            pairs = ((piece[:i], piece[i:]) for i in range(1, len(piece)))
            merges += [(-score, ids[a], ids[b], (a, b)) for a, b in pairs if a in parts and b in parts]
    return models.BPE(
        vocab=ids,
        merges=[pair for *_, pair in sorted(merges)],
        unk_token=vocabulary.pieces[list(vocabulary.kinds).index(Kind.UNKNOWN)],
        fuse_unk=True,
        byte_fallback=Kind.BYTE in vocabulary.kinds,
    )
