"""Small tokenizers of the kinds that models have."""

from collections.abc import Callable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from falcon_runtime.models.sentencepiece_tokenizer import Kind, Vocabulary, build

from ..small_models import CHAT_TEMPLATE, small_tokenizer

CONTROLS = ["<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
SPELLING_OF_BYTES = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
LETTERS = ["▁", *"aetsn<>|/", "▁t", "▁a", "te", "en", "an"]
MERGES = [("▁", "t"), ("▁", "a"), ("t", "e"), ("e", "n"), ("a", "n")]


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """With BOS before a text and, as some checkpoints have it, EOS behind it."""
    bos, eos = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", bos), ("</s>", eos)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", chat_template=CHAT_TEMPLATE
    )


def byte_level() -> PreTrainedTokenizerFast:
    """Every byte a token: every character but ASCII is split."""
    return small_tokenizer()


def byte_fallback(normalized: bool = False) -> PreTrainedTokenizerFast:
    """Llama 2's kind, which knows a few letters and spells the rest as bytes. In old files its control tokens are
    looked for in normalized text."""
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2} | SPELLING_OF_BYTES
    vocabulary |= {piece: len(vocabulary) + i for i, piece in enumerate(LETTERS)}
    tokenizer = Tokenizer(models.BPE(vocabulary, MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(control, normalized=normalized) for control in CONTROLS])
    return _fast(tokenizer)


def _sentencepiece(prefix: str, unigram: bool = False) -> PreTrainedTokenizerFast:
    kinds = [Kind.UNKNOWN, *[Kind.CONTROL] * len(CONTROLS), *[Kind.BYTE] * 256, *[Kind.NORMAL] * len(LETTERS)]
    pieces = ["<unk>", *CONTROLS, *SPELLING_OF_BYTES, *LETTERS, "<think>"]
    scores = [0.0] * (len(pieces) - len(LETTERS) - 1) + [-1.0 - i for i in range(len(LETTERS))] + [0.0]
    return _fast(build(Vocabulary(pieces, scores, [*kinds, Kind.USER_DEFINED], unigram, prefix)))  # type: ignore[arg-type]


def metaspace_first() -> PreTrainedTokenizerFast:
    """A space is put before text, and "<think>" is a token that anybody may write."""
    return _sentencepiece("first")


def metaspace_always() -> PreTrainedTokenizerFast:
    """A space is put before text and behind every token that is found whole."""
    return _sentencepiece("always")


def unigram() -> PreTrainedTokenizerFast:
    """A unigram vocabulary that holds its control tokens as likely pieces, as tokenizer.json files of that kind do."""
    pieces = [("<unk>", 0.0), *((control, 0.0) for control in CONTROLS), *((piece, -8.0) for piece in LETTERS)]
    pieces += [(byte, -20.0) for byte in SPELLING_OF_BYTES]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(control, normalized=False) for control in CONTROLS])
    return _fast(tokenizer)


def whole_words() -> PreTrainedTokenizerFast:
    """Llama 3's kind: byte-level, words that are in the vocabulary taken whole, its control tokens among them, some of
    which swallow the white space beside them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*CONTROLS, *alphabet, "Ġa", "te", "ĊĊ", "<unk>"]
    merges = [("Ġ", "a"), ("t", "e"), ("Ċ", "Ċ")]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r" ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]*\S+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(control, normalized=False, rstrip="|" in control) for control in CONTROLS])
    return _fast(tokenizer)


KINDS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    kind.__name__: kind for kind in (byte_level, byte_fallback, metaspace_first, metaspace_always, unigram, whole_words)
}
