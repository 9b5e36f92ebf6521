"""What the mask of a constraint costs for each token of an answer, with a vocabulary of Falcon3's size.

    python -m benchmarks.masks [--vocabulary 131072]

No Falcon3 tokenizer is needed: one of as many tokens, a byte-level BPE as Falcon3's is, is trained on the Python
packages that are installed. Each answer is a text that its constraint allows, token by token as the tokenizer has it.
The mask is computed beside the forward, which takes tens of milliseconds where a vocabulary is as large as that.
"""

import argparse
import json
import statistics
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from falcon_runtime.constraint import Constraint
from falcon_runtime.engine.constraints import Grammars
from falcon_runtime.system.machine import cpu_name

READ_BYTES = 90_000_000
"""Of the texts that the tokenizer is trained on."""
END = "<|endoftext|>"
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "born": {"type": "string", "format": "date"},
        "kind": {"enum": ["guest", "member", "owner"]},
        "notes": {"type": "array", "items": {"type": "string", "maxLength": 400}},
    },
    "required": ["name", "age", "born", "kind", "notes"],
    "additionalProperties": False,
}
SOMEONE = {
    "name": "Amélie O'Neill — 李娜",
    "age": 43,
    "born": "1983-02-28",
    "kind": "owner",
    "notes": ['Came by twice, and asked for "the quiet room".\nWill be back in May.', "مرحبا بكم 🦅", "x" * 40] * 4,
}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "a JSON schema": ({"json_schema": PERSON}, json.dumps(SOMEONE, ensure_ascii=False)),
    "any JSON object": ({"json_object": True}, json.dumps(SOMEONE, ensure_ascii=False)),
    "a regular expression": (
        {"regex": r"([A-Z][a-z]+( [a-z0-9,'-]+){2,40}[.!?] ?){1,40}"},
        "The harbor was quiet that evening, and nobody spoke of the storm. " * 12,
    ),
    "a grammar": (
        {"grammar": 'start: expr\nexpr: term (("+" | "-") term)*\nterm: NUMBER | "(" expr ")"\nNUMBER: /[0-9]+/'},
        "+".join(f"(17-{number}+(4-{number * 991}))" for number in range(24)),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--vocabulary", type=int, default=131_072)
    vocabulary = parser.parse_args().vocabulary
    with tempfile.TemporaryDirectory() as folder:
        tokenizer, file = trained(vocabulary), Path(folder, "tokenizer.json")
        tokenizer.save(str(file))
        grammars = Grammars(file, vocabulary, [tokenizer.token_to_id(END) or 0])
        print("| mask, ms | tokens | mean | median | 99 % below | most |\n|---|---|---|---|---|---|")
        for name, (constraint, text) in CASES.items():
            taken = sorted(masks(grammars, Constraint.model_validate(constraint), tokenizer.encode(text).ids))
            figures = statistics.mean(taken), statistics.median(taken), taken[int(0.99 * len(taken))], taken[-1]
            print(f"| {name} | {len(taken)} | {' | '.join(f'{1000 * seconds:.2f}' for seconds in figures)} |")
    print(f"\n{tokenizer.get_vocab_size():,} tokens, {cpu_name()}")


def masks(grammars: Grammars, constraint: Constraint, tokens: list[int]) -> Iterator[float]:
    """Seconds of a processor for each token's mask. The answer is followed once before: the library keeps what it has
    found out."""
    for counted in (False, True):
        follower = grammars.follower(constraint)
        for token in tokens:
            began = time.thread_time()
            (mask,) = follower.masks(())
            if counted:
                yield time.thread_time() - began
            assert mask[token // 32] >> token % 32 & 1, "the text is not one that the constraint allows"
            follower.take(token)


def trained(vocabulary: int) -> Tokenizer:
    """A byte-level BPE tokenizer of as many tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=alphabet,
        max_token_length=64,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(), trainer)
    return tokenizer


def texts() -> Iterator[str]:
    """Python files at hand."""
    read = 0
    for path in sorted(Path(sysconfig.get_path("purelib")).rglob("*.py")):
        text = path.read_text(errors="replace")
        read += len(text)
        yield text
        if read > READ_BYTES:
            return


if __name__ == "__main__":
    main()
