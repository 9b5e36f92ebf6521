"""The tokenizer that a GGUF file describes, rebuilt so that it splits text as llama.cpp does with that file.

transformers' own reader knows neither the digits of `smollm` nor `ignore_merges`, and adds no BOS token. What the
fields mean is written in https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ..errors import ConversionFailed
from ..models import sentencepiece_tokenizer
from ..models.sentencepiece_tokenizer import Kind, Vocabulary
from ..models.stock.tokenizer import LLAMA_3_SPLIT
from ..models.tokenizer_files import TEMPLATE_BYTES

FIELDS = "tokenizer.ggml."
AGAIN = "Download the checkpoint again."

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_SPLITS = {
    "default": [r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
    "gpt-2": [_GPT2],
    "smollm": [_DIGIT, _GPT2],
    "llama3": [LLAMA_3_SPLIT],
    "llama-v3": [LLAMA_3_SPLIT],
    "llama-bpe": [LLAMA_3_SPLIT],
    "falcon3": [LLAMA_3_SPLIT],
}
"""By pre-tokenizer, the expressions whose matches are cut out of the text, one after the other."""


def build_tokenizer(metadata: Mapping[str, Any], source: str) -> PreTrainedTokenizerFast:
    """The tokenizer of the GGUF file `source` that has this metadata.

    Errors: ConversionFailed where it has none, or one of a kind that is not known.
    """
    fields = {key.removeprefix(FIELDS): value for key, value in metadata.items() if key.startswith(FIELDS)}
    if not fields.get("tokens"):
        raise ConversionFailed(f"{source} has no tokenizer. Use a file that has one.")
    _check_fields(fields, metadata.get("tokenizer.chat_template"), source)
    kind, tokens = fields.get("model"), fields["tokens"]
    fields.setdefault("token_type", [Kind.NORMAL] * len(tokens))
    if kind == "gpt2":
        pre = fields.get("pre", "(unnamed)")
        if pre not in _SPLITS:
            raise ConversionFailed(
                f"{source} splits text by the pre-tokenizer {pre:.100}, and only {', '.join(_SPLITS)} are known. "
                "Convert the model from its Hugging Face folder."
            )
        like_llama3 = _SPLITS[pre] == [LLAMA_3_SPLIT]
        tokenizer, add_bos = _byte_level(fields, _SPLITS[pre], ignore_merges=like_llama3), like_llama3
    elif kind == "llama":
        tokenizer, add_bos = _sentencepiece(fields), True
    else:
        raise ConversionFailed(f"{source} has a tokenizer of type {kind!s:.100}, and only gpt2 and llama are known.")
    ends = [AddedToken(tokens[i], normalized=False) for i in sorted(end_ids(metadata, len(tokens)))]
    tokenizer.add_special_tokens(ends)  # Old files call some of them normal tokens.
    names = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
    ids = {f"{name}_token": fields.get(f"{field}_token_id") for name, field in names.items()}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=metadata.get("tokenizer.chat_template"),
        add_bos_token=fields.get("add_bos_token", add_bos),
        clean_up_tokenization_spaces=False,
        **{name: tokens[i] for name, i in ids.items() if i is not None},
    )


def end_ids(metadata: Mapping[str, Any], vocabulary: int) -> set[int]:
    """The tokens that end a text (EOS), a turn (EOT) or a message (EOM), in a vocabulary of this size.

    Errors: ConversionFailed where one is none of its tokens.
    """
    ids = [metadata.get(f"{FIELDS}{name}_token_id") for name in ("eos", "eot", "eom")]
    return {_token(i, vocabulary) for i in ids if i is not None}


def _token(value: Any, vocabulary: int) -> int:
    if type(value) is not int or not 0 <= value < vocabulary:
        raise ConversionFailed(f"The tokenizer has {vocabulary:,} tokens, but refers to token {value!r:.100}. {AGAIN}")
    return value


def _check_fields(fields: Mapping[str, Any], template: Any, source: str) -> None:
    """Raises ConversionFailed where a field is of another type than the format says."""
    kinds = {"tokens": str, "merges": str, "token_type": int, "scores": float}
    wrong = [
        name
        for name, kind in kinds.items()
        if not isinstance(values := fields.get(name, []), list) or not all(type(value) is kind for value in values)
    ]
    wrong += [name for name in ("model", "pre") if not isinstance(fields.get(name, ""), str)]
    if not isinstance(template, str | None) or len(template or "") > TEMPLATE_BYTES:
        wrong.append("chat_template")
    if wrong:
        raise ConversionFailed(f"The tokenizer of {source} cannot be read: its {wrong[0]} is not valid. {AGAIN}")
    for name in ("bos", "eos", "unknown", "padding"):
        if (value := fields.get(f"{name}_token_id")) is not None:
            _token(value, len(fields["tokens"]))


def _byte_level(fields: Mapping[str, Any], splits: list[str], ignore_merges: bool) -> Tokenizer:
    """Byte-level BPE. With `ignore_merges`, words that are tokens are taken whole."""
    vocabulary = {token: i for i, token in enumerate(fields["tokens"])}
    merges = [tuple(merge.split(" ")) for merge in fields["merges"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=ignore_merges))
    # By their names where they have some, which the tokenizers of phones know: of an expression that does not match all
    # of a text, those lose the rest.
    by_name = splits[-1] == _GPT2
    steps = [_split(expression) for expression in splits[: len(splits) - by_name]]
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=by_name)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*steps, to_bytes])
    tokenizer.decoder = decoders.ByteLevel()
    pieces = list(zip(fields["tokens"], fields["token_type"], strict=True))
    tokenizer.add_special_tokens([AddedToken(p, normalized=False) for p, kind in pieces if kind == Kind.CONTROL])
    tokenizer.add_tokens([AddedToken(p, normalized=False) for p, kind in pieces if kind == Kind.USER_DEFINED])
    return tokenizer


def _split(expression: str) -> pre_tokenizers.PreTokenizer:
    if expression == _DIGIT:
        return pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Split(Regex(expression), "isolated")


def _sentencepiece(fields: Mapping[str, Any]) -> Tokenizer:
    return sentencepiece_tokenizer.build(
        Vocabulary(
            pieces=fields["tokens"],
            scores=fields["scores"],
            kinds=fields["token_type"],
            unigram=False,
            prefix="always" if fields.get("add_space_prefix", True) else "never",
        )
    )
