"""The encoding of a text file that does not say it: the one in which its characters are likeliest, or none.

Charset-normalizer needs a few sentences to tell encodings of one byte a character apart. What it knows of the frequency
of letters is enough for a few words, where the likelihood of every character counts.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import log

from charset_normalizer.constant import FREQUENCIES

SURE = 3.0
"""By how much the likeliest reading must be likelier than any other: a factor of 20, as a logarithm."""
UNLIKELY = -10.0
"""What is less likely a character, on average, is no text in any of the languages."""
SAMPLE = 4000
"""Bytes that are looked at, of the lines that are not ASCII."""
EAST_ASIAN = ("CJK", "KANA", "HANGUL")
PUNCTUATION = frozenset("«»“”„‘’‚‹›–—…•·№°€£§©®™×±¿¡\xa0\xad،؛؟ـ")
LONELY = re.compile(r"(?<![^\W\d_])[^\W\d_\x00-\x7f](?![^\W\d_])")
ONE_LETTER_WORDS = frozenset("àèéêíóôòúåäöøæáÀÉÅÖаивксоуяіїєжбАИВКСОУЯηοωΗΟו و")
WIDE_PUNCTUATION = frozenset("。，、！？；：（）《》〈〉「」『』【】・～…—“”‘’　")


@dataclass(frozen=True, eq=False)
class Language:
    script: str
    """The first word of its letters' Unicode names."""
    letters: Mapping[str, float]
    """Logarithms of how likely its letters are; of Latin ones those beyond ASCII."""


def _ranked(script: str, letters: str, share: float = 0.9, flatness: int = 5) -> Language:
    """A language by its letters, the most frequent first: likelihood falls about as one over the rank."""
    weights = [1 / (rank + flatness) for rank in range(len(letters))]
    return Language(script, {c: log(share * w / sum(weights)) for c, w in zip(letters, weights, strict=True)})


def _known(script: str, name: str, more: str = "") -> Language:
    letters = [c for c in FREQUENCIES[name] if unicodedata.name(c).startswith(script)]
    return _ranked(script, "".join([*letters, *(c for c in more if c not in letters)]))


CYRILLIC = (
    _known("CYRILLIC", "Russian", "шфщэъё"),
    _known("CYRILLIC", "Ukrainian", "шжюєщфґї"),
    _known("CYRILLIC", "Bulgarian", "фшюьъ"),
    _known("CYRILLIC", "Serbian", "шчцхжњљћђфџ"),
)
GREEK, HEBREW = _known("GREEK", "Greek", "φχξζβψύώϊΐϋΰ"), _known("HEBREW", "Hebrew", "זץףסג")
ARABIC = (_known("ARABIC", "Arabic", "ذغضظثئءؤآ"), _known("ARABIC", "Farsi", "چثضظذغءئ"))
THAI = _known("THAI", "Thai", "่้ัิีืึุู็์ใไโๆ")
WESTERN = tuple(
    _ranked("LATIN", letters)
    for letters in (
        "üäöß", "éàèêçôîûùœëïâ", "éïñöçèüáôê", "óíáéñúü", "ãéçíóáêõúàâ", "àèìòùé", "äöåé", "åæøé",
        "ëïéèöü", "áðíþéóúýæö",
    )
)  # fmt: skip
CENTRAL = tuple(
    _ranked("LATIN", letters) for letters in ("łąężśćóńź", "íáéěřčžýšůúťďňó", "áíéčžýšťľúôňďäĺŕ", "áéöőóüíúű",
                                              "ăîâşţ", "čžšćđ")
)  # fmt: skip
TURKISH = _ranked("LATIN", "ıüşğçöİâî")
BALTIC = (_ranked("LATIN", "ėųšžįąčūę"), _ranked("LATIN", "āīēšņļūžčģķ"), _ranked("LATIN", "äõüöšž"))
CHINESE = _ranked("CJK", "".join(FREQUENCIES["Chinese"]), 0.4, 10)
TRADITIONAL = _ranked(
    "CJK", "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之年", 0.3, 10
)
JAPANESE = _ranked("KANA", "".join(FREQUENCIES["Japanese——"] + FREQUENCIES["Japanese—"]), 0.6, 10)
KOREAN = _ranked("HANGUL", "".join(FREQUENCIES["Korean"]), 0.4)

ENCODINGS: dict[str, tuple[float, tuple[Language, ...]]] = {
    "cp1252": (0, WESTERN),
    "iso8859_15": (-2, WESTERN),
    "cp1250": (-1.5, CENTRAL),
    "iso8859_2": (-3, CENTRAL),
    "cp1254": (-2, (TURKISH,)),
    "cp1257": (-3, BALTIC),
    "cp1251": (0, CYRILLIC),
    "koi8_r": (-1.5, CYRILLIC[:1]),
    "koi8_u": (-2, CYRILLIC[1:2]),
    "cp866": (-1, CYRILLIC[:1]),
    "iso8859_5": (-1.5, CYRILLIC),
    "mac_cyrillic": (-3, CYRILLIC[:1]),
    "cp1253": (0, (GREEK,)),
    "iso8859_7": (-0.5, (GREEK,)),
    "cp1255": (0, (HEBREW,)),
    "iso8859_8": (-0.5, (HEBREW,)),
    "cp1256": (0, ARABIC),
    "iso8859_6": (-1, ARABIC[:1]),
    "cp874": (-2, (THAI,)),
    "gb18030": (0, (CHINESE,)),
    "big5": (-0.5, (TRADITIONAL,)),
    "cp932": (0, (JAPANESE,)),
    "euc_jp": (-0.5, (JAPANESE,)),
    "iso2022_jp": (0, (JAPANESE,)),
    "cp949": (0, (KOREAN,)),
}
"""Encodings without a mark, how much rarer than others they are, as a logarithm, and the languages written in them."""


def guess(content: bytes) -> str | None:
    """The text of a file in one of `ENCODINGS`; None where it is not sure, or no text."""
    scores: dict[str, float] = {}
    escapes = b"\x1b" in content
    sample = b"\n".join(line for line in content.split(b"\n") if escapes or not line.isascii())[:SAMPLE]
    for encoding, (rarity, languages) in ENCODINGS.items():
        if escapes != (encoding == "iso2022_jp"):  # The one that is made of them.
            continue
        try:
            text = content.decode(encoding)
        except UnicodeDecodeError:
            continue
        part = sample.decode(encoding, "ignore")  # It may end within a character.
        foreign = sum(not c.isascii() for c in part)
        score = rarity + max(_likelihood(part, language) for language in languages)
        if score >= UNLIKELY * foreign:
            scores[text] = max(score, scores.get(text, score))
    best = sorted(scores, key=lambda text: scores[text], reverse=True)
    if not best or (len(best) > 1 and scores[best[0]] - scores[best[1]] < SURE):
        return None
    return best[0]


def _likelihood(text: str, language: Language) -> float:
    """The logarithm of how likely the text's characters beyond ASCII are in a language."""
    total, latin, own, before = 0.0, 0, 0, " "
    for c in text:
        if c.isascii():
            latin += c.isalpha()
            if c.isalpha() and not before.isascii() and before.isalpha() and language.script != "LATIN":
                total -= 5  # Words are of one script.
        else:
            own += c.isalpha()
            total += _character(c, language) + _neighbours(before, c, language.script)
        before = c
    total -= 3 * sum(letter not in ONE_LETTER_WORDS for letter in LONELY.findall(text))
    if language.script not in ("LATIN", *EAST_ASIAN) and own < latin / 2:
        total -= 2 + 2 * own  # A few letters among so many Latin ones are Latin, too.
    return total


def _neighbours(before: str, c: str, script: str) -> float:
    """How much less likely a character is after the one before it."""
    if script in EAST_ASIAN:
        return -3 if before.isascii() and before.isalpha() else 0
    if not (c.isalpha() or unicodedata.combining(c)):
        return 0
    if not before.isalpha():
        return -1 if c.isupper() else -8 if unicodedata.combining(c) else 0
    found = 0.0
    if (script == "LATIN") != before.isascii():  # Accented letters stand alone, other scripts do not mix with Latin.
        found = -3 if script == "LATIN" else -5
    if c.isupper():
        found -= 5 if before.islower() else 0.3
    elif before.isupper() and c.islower():
        found -= 0.5
    return found


@cache
def _character(c: str, language: Language) -> float:
    """The logarithm of how likely a character is in a language."""
    if language.script in EAST_ASIAN:
        return language.letters.get(c) or (-4 if c in WIDE_PUNCTUATION else _east_asian(c, language))
    found = language.letters.get(c.lower()) or language.letters.get(c)
    if found is not None:
        return found
    if c in PUNCTUATION:
        return -4
    name = unicodedata.name(c, "")
    if not name:  # A control character, or none.
        return -20
    return -8 if name.startswith(language.script) and (c.isalpha() or unicodedata.combining(c)) else -13


def _east_asian(c: str, language: Language) -> float:
    """Of one that is not among the most frequent: by where the national standard has it, common ones first."""
    codec, common, usual = {
        CHINESE: ("gb2312", 0xD8, -8.9),
        TRADITIONAL: ("big5", 0xC7, -8.7),
        JAPANESE: ("euc_jp", 0xD0, -9.0),
        KOREAN: ("euc_kr", 0xC9, -7.9),
    }[language]
    try:
        code = c.encode(codec)
    except UnicodeEncodeError:
        return -13
    if len(code) != 2 or not (c.isalpha() or 0xFF00 < ord(c) < 0xFF5F):
        return -12
    if language is KOREAN and not "가" <= c <= "힣":
        return -12
    return usual if code[0] < common else -11.5
