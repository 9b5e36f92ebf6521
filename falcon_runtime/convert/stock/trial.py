"""A written folder, tried as a phone uses it, in a process of its own: ExecuTorch ends the one that it is in where it
finds fault with a file. `python -m falcon_runtime.convert.stock.trial SOCKET FOLDER WHAT`, started by `check.py`, sends
what is wrong with WHAT, `tokenizer` or `program`, in words, or None.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ...engine.stock_program import StockProgram
from ...models.manifest import PROGRAM
from ...models.stock.manifest import read_stock
from ...system.child import connect
from ...system.files import read_json
from .files import GENERATION, SENTENCEPIECE, TOKENIZER, phones_tokenizer

TEXTS = (
    "Once upon a time, there was a falcon.",
    "In 2024 there were 1234567 of them, 3.14 each; 56 + 7 = 63.",
    "two\nlines\r\n\n  and\ttabs,   spaces  ",
    "don't WE'LL they'RE l'été Ça va, naïve café",
    "Привет, мир! Καλημέρα. שלום",
    "مرحبا بالعالم، كيف الحال؟ ١٢٣",
    "你好，世界。こんにちは 안녕하세요 नमस्ते",
    "emoji 🙂👍🏽 and 👨‍👩‍👧 🦅",
    "def f(x):\n    return {'a': x**2}  # squared\n",
)
"""Of many scripts and kinds."""
PROMPTS = "Once upon a time", "The capital of France is"
NEW_TOKENS = 64
REPLACED = "\N{REPLACEMENT CHARACTER}"


def read_as_phones(path: Path) -> Any:
    from pytorch_tokenizers import pytorch_tokenizers_cpp as library

    tokenizer = library.SPTokenizer() if path.name == SENTENCEPIECE else library.HFTokenizer()
    tokenizer.load(str(path))
    return tokenizer


def tokenizer_problem(folder: Path) -> str | None:
    """The library that runs on phones reads a tokenizer.json in its own way, and skips what it does not know."""
    name = phones_tokenizer(folder)
    try:
        phone = read_as_phones(folder / name)
    except RuntimeError:
        return f"the phones' library cannot read its {name}"
    ours = Tokenizer.from_file(str(folder / TOKENIZER))
    added = ours.get_added_tokens_decoder()
    if name == SENTENCEPIECE:  # Which has control tokens that no text becomes.
        added = {number: token for number, token in added.items() if number >= phone.vocab_size() or not token.special}
    special = [token.content for token in added.values()][:20]
    for text in (*TEXTS, *("Hi".join([token, "\n"]) for token in special)):
        expected, found = ours.encode(text, add_special_tokens=False).ids, list(phone.encode(text, 0, 0))
        if found != expected:
            return f"its tokenizer turns {text!r} into {found[:8]}…, not into {expected[:8]}…"
    return None


def program_problem(folder: Path) -> str | None:
    """ExecuTorch's runner should answer with the tokens that this project's engine gives."""
    phone = read_as_phones(folder / phones_tokenizer(folder))
    ends = set(read_json(folder / GENERATION)["eos_token_id"])
    prompts = {prompt: tokens for prompt in PROMPTS if (tokens := list(phone.encode(prompt, 0, 0)))}
    count = min(NEW_TOKENS, read_stock(folder).context - max(map(len, prompts.values()), default=0))
    answers = greedy(folder, list(prompts.values()), count)
    for answer, found in zip(answers, run(folder, list(prompts), count), strict=True):
        expected = [_decoded(phone, token) for token in takewhile(lambda token: token not in ends, answer)]
        if REPLACED in expected:  # Half a character, at which the runner's binding gives up.
            expected = expected[: expected.index(REPLACED)]
        if found[: len(expected)] != expected:
            return f"ExecuTorch's runner answers {''.join(found)!r}, and this project's engine {''.join(expected)!r}"
    return None


def _decoded(phone: Any, token: int) -> str:
    try:
        return str(phone.decode(token))
    except UnicodeDecodeError:
        return REPLACED


def greedy(folder: Path, prompts: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The likeliest tokens after each of `prompts`, by this project's engine."""
    program, answers = StockProgram(read_stock(folder), threads=None), list[list[int]]()
    for prompt in prompts:
        new, position, answer = prompt, 0, list[int]()
        while len(answer) < count:
            logits = program.forward([new], [position], [len(new) - 1])
            position += len(new)
            new = [int(logits[0].argmax())]
            answer += new
        answers.append(answer)
    return answers


def run(folder: Path, prompts: Sequence[str], count: int) -> list[list[str]]:
    """The texts of the tokens that `TextLLMRunner` answers to each of `prompts`, without sampling. Its operators are
    there once `greedy` has run."""
    from executorch.extension.llm.runner import GenerationConfig, TextLLMRunner

    runner, answers = TextLLMRunner(str(folder / PROGRAM), str(folder / phones_tokenizer(folder))), list[list[str]]()
    for prompt in prompts:
        answers.append([])
        config = GenerationConfig(echo=False, max_new_tokens=count, temperature=0.0)
        with suppress(UnicodeDecodeError):  # A token that is half a character has no text of its own.
            runner.generate(prompt, config, answers[-1].append)
        runner.reset()
    return answers


def main() -> None:
    socket, folder, what = sys.argv[1:]
    connection, silence = connect(socket), os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # The runner prints what it generates.
    try:
        problem = {"tokenizer": tokenizer_problem, "program": program_problem}[what](Path(folder))
    except Exception as error:  # Native code raises many kinds.
        problem = f"{type(error).__name__}: {error!s:.300}"
    connection.send(problem)


if __name__ == "__main__":
    main()
