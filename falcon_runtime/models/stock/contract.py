"""How the program of a language model is called, told from its signature: the graph's own bounds count, not what its
constant methods claim.

The two-input contract is that of ExecuTorch's `export_llm` and of its `TextLLMRunner`, one position or one for each
token (extension/llm/runner/text_decoder_runner.cpp); a program with tokens alone has no KV cache.
"""

from dataclasses import dataclass
from typing import NoReturn

from ...errors import UnsupportedProgram
from ..architecture import MAX_CONTEXT, MAX_VOCABULARY
from .program_file import Method, ProgramFile, Tensor

FORWARD = "forward"
INTEGERS = ("int64", "int32")
OWN = "falcon::"
"""What this project's own operators are called."""


@dataclass(frozen=True)
class Contract:
    """`forward(tokens [1, S])` or `forward(tokens [1, S], positions [1] or [S])`, which gives logits."""

    cached: bool
    """Whether the program has a KV cache. Else it takes the whole text each time."""
    integers: tuple[str, ...]
    """The type of each input."""
    positions: tuple[int, ...]
    """The shape of the second input: one position, or as many as tokens; empty without a cache."""
    step: int
    """Tokens that one call takes at most."""
    fixed: bool
    """Whether it takes exactly so many."""
    all_rows: bool
    """Whether it gives logits for each token, or for the last one alone."""
    context: int
    """Tokens of prompt and answer together."""
    vocabulary: int
    """Width of the logits."""
    rewinds: bool
    """Whether it can go back to any position. Caches that are rings have lost what was there."""

    @property
    def kind(self) -> str:
        """In a few words."""
        if not self.cached:
            return "without a KV cache, so that each token takes as long as all of the text"
        rows = "logits of all tokens" if self.all_rows else "logits of the last token"
        at_once = "one token" if self.step == 1 else f"{self.step:,} tokens"
        positions = "one position" if self.positions == (1,) and self.step > 1 else "a position for each token"
        ring = "" if self.rewinds else ", caches that are rings, so that nothing is taken back"
        chunk = f"{'exactly' if self.fixed else 'at most'} {at_once} a call"
        return f"with a KV cache, {chunk}, {positions}, {rows}{ring}"


def contract_of(program: ProgramFile) -> Contract:
    """Errors: UnsupportedProgram, in a sentence that says what the program is instead."""
    method = program.method(FORWARD)
    if method is None:
        _refuse_methods(program)
    if any(operator.startswith(OWN) for operator in method.operators):
        _refuse(
            program,
            "was packed by this project, and the manifest.json that belongs to it is missing. Convert the model again",
        )
    tensors = [value for value in (*method.inputs, *method.outputs) if isinstance(value, Tensor)]
    if len(tensors) != len(method.inputs) + len(method.outputs):
        _refuse(program, f"takes or returns what is no tensor: {_signature(method)}")
    inputs = tensors[: len(method.inputs)]
    if not inputs:
        _refuse(program, f"is no language model: {FORWARD} takes nothing where tokens are expected")
    tokens = inputs[0]
    if tokens.type not in INTEGERS:
        _refuse(program, f"is no language model: {FORWARD} takes {tokens} where tokens are expected")
    if len(tokens.sizes) != 2 or tokens.sizes[0] != 1 or tokens.sizes[1] < 1:
        _refuse(program, f"takes tokens as {tokens}, and only one sequence, [1, tokens], can be given")
    if len(inputs) > 2 or len(method.outputs) != 1:
        _refuse_more(program, inputs, method)
    step, fixed = tokens.sizes[1], not tokens.dynamic
    all_rows, vocabulary = _logits(program, tensors[-1], step)
    positions = _positions(program, inputs[1], step) if len(inputs) == 2 else ()
    cached = len(inputs) == 2
    context = _context(program, method) if cached else step
    rewinds = not (cached and _has_rings(method, context))
    if fixed and step > 1 and not all_rows:
        _refuse(program, f"takes exactly {step} tokens and gives the logits of the last, which would be padding")
    if fixed and (step > context or (step > 1 and not rewinds)):
        _refuse(program, f"takes exactly {step} tokens, for which its caches have no room to be padded")
    if context < 2:
        _refuse(program, "takes one token and has no KV cache, so that no text can be given")
    return Contract(
        cached=cached,
        integers=tuple(tensor.type for tensor in inputs),
        positions=positions,
        step=min(step, context),
        fixed=fixed,
        all_rows=all_rows,
        context=context,
        vocabulary=vocabulary,
        rewinds=rewinds,
    )


def _logits(program: ProgramFile, logits: Tensor, step: int) -> tuple[bool, int]:
    """Whether there are some for each token, and how wide they are."""
    *rows, width = logits.sizes or (0,)
    count = 1
    for size in rows:
        count *= size
    if count not in (1, step) or len(logits.sizes) not in (2, 3) or not 1 < width <= MAX_VOCABULARY:
        _refuse(program, f"is no language model: {FORWARD} returns {logits}, which are no logits of {step} tokens")
    if logits.type != "float32":
        _refuse(program, f"gives logits in {logits.type}; only float32 can be read. Export it with float32 logits")
    return count == step, width


def _positions(program: ProgramFile, positions: Tensor, step: int) -> tuple[int, ...]:
    if positions.type not in INTEGERS or positions.sizes not in {(1,), (step,), (1, step)}:
        _refuse(program, f"takes {positions} beside the tokens, where one position, or one for each, is expected")
    return positions.sizes


def _context(program: ProgramFile, method: Method) -> int:
    """The least of what its caches and what its constants say."""
    claimed = program.constants("get_max_context_len") or program.constants("get_max_seq_len")
    lengths = [*claimed[:1], *(cache.tokens for cache in method.caches if not cache.anywhere)]
    if not lengths:
        _refuse(
            program, "does not say how many tokens its caches hold. Export it with the constant get_max_context_len"
        )
    if not 0 < min(lengths) <= MAX_CONTEXT:
        _refuse(program, f"has room for {min(lengths):,} tokens, which is no context")
    return min(lengths)


def _has_rings(method: Method, context: int) -> bool:
    return method.counts_positions or any(cache.anywhere and cache.tokens < context for cache in method.caches)


def _refuse_methods(program: ProgramFile) -> NoReturn:
    names = [method.name for method in program.methods if not method.constant]
    if {"kv_forward", "prefill_forward"} & set(names):
        _refuse(
            program,
            f"is called in another way, by {' and '.join(names)}, as Qualcomm's fast programs are: they have their KV "
            f"cache passed in and out. Export it with one {FORWARD} of tokens and positions",
        )
    there = ", ".join(names[:10]) or "none that takes anything"
    _refuse(program, f"has no method {FORWARD}, and is no language model that can run here; its methods: {there}")


def _refuse_more(program: ProgramFile, inputs: list[Tensor], method: Method) -> NoReturn:
    floats = [tensor for tensor in inputs if tensor.type not in (*INTEGERS, "bool")]
    if floats and len(method.outputs) > 1:
        _refuse(
            program,
            f"has its KV cache passed in and out: {FORWARD} takes {len(inputs)} tensors and returns "
            f"{len(method.outputs)}. Export it with the cache inside",
        )
    _refuse(
        program,
        f"is called in another way: {FORWARD} is {_signature(method)}, where tokens, positions and one tensor of "
        "logits are expected",
    )


def _signature(method: Method) -> str:
    inputs, outputs = (", ".join(map(str, values[:6])) for values in (method.inputs, method.outputs))
    return f"({inputs}) -> ({outputs})"


def _refuse(program: ProgramFile, why: str) -> NoReturn:
    raise UnsupportedProgram(f"{program.path} {why}.")
