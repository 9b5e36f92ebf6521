"""What a conversion will make: decided once, from what is asked for and what the checkpoint is, before any work."""

from dataclasses import dataclass

from ..errors import ConversionFailed
from ..models.architecture import MAX_ROWS
from ..models.manifest import RecipeName, Target
from ..models.recipes import Schemes, schemes_of
from ..system.machine import machine_memory
from .checkpoint import Checkpoint
from .needs import Needs
from .opening import Opened
from .qnn.chips import check_recipe
from .request import Request
from .stock.schemes import stock_schemes

MIN_CONTEXT: dict[Target, int] = {"server": 16, "stock": 64, "openvino": 64, "qnn": 16}
"""In what is for a stock runner, the prompts that it is tried with must fit."""
DEFAULT_CONTEXT = 2048
"""For checkpoints that the catalogue does not know, where they have as much: the KV cache is memory."""
STATIC_CONTEXT = 1024
"""Where shapes are static, which makes each token take as long as the last one of the context."""


@dataclass(frozen=True)
class Plan:
    title: str
    target: Target
    recipe: RecipeName
    schemes: Schemes
    slots: int
    context: int
    chip: str | None
    """Qualcomm's, of a model for their NPUs."""
    needs: Needs
    licence: str
    """For people."""
    catalogued: str
    """The name of the catalogue's model that is converted, if it is one."""


def make_plan(request: Request, opened: Opened) -> Plan:
    """How `opened` will be converted.

    Where nothing else is asked for: the catalogue's recipe and context (else `_fitting_recipe` and at most 2,048
    tokens), and as many slots as `Architecture.fitting_slots` finds for this machine. Errors: ConversionFailed.
    """
    checkpoint, origin, shape = opened.checkpoint, opened.origin, opened.checkpoint.architecture
    recipe = request.recipe or _fitting_recipe(checkpoint)
    if request.chip:
        check_recipe(request.chip, recipe)
    if recipe == "fp32" and request.cache:
        raise ConversionFailed("The recipe fp32 rounds nothing, not even its KV cache: leave --cache out.")
    if request.target == "server":
        schemes = schemes_of(recipe, shape, checkpoint.has_offsets, request.cache or 16)
    elif request.target == "stock":
        schemes = stock_schemes(recipe, shape)
    else:
        schemes = stock_schemes("fp32", shape)  # Their compilers take it so, and round it themselves.
    size, context = schemes.bytes(shape), _context(request, checkpoint)
    slots = request.slots if request.target == "server" else 1
    if slots is None:
        slots = shape.fitting_slots(size, context, machine_memory(), schemes.cache_bits)
    elif not 1 <= slots <= MAX_ROWS:
        raise ConversionFailed(f"Slots may be 1 to {MAX_ROWS}, not {slots}.")
    memory = shape.memory_bytes(size, context, slots, schemes.cache_bits)
    return Plan(
        title=request.title,
        target=request.target,
        recipe=recipe,
        schemes=schemes,
        slots=slots,
        context=context,
        chip=request.chip,
        needs=Needs(origin.download_bytes, origin.download_room, size, memory),
        licence=request.entry.terms if request.entry else origin.licence,
        catalogued=request.entry.name if request.entry else "",
    )


def _context(request: Request, checkpoint: Checkpoint) -> int:
    least, longest = MIN_CONTEXT[request.target], checkpoint.max_context
    if request.context is None:
        usual = request.entry.context if request.entry else DEFAULT_CONTEXT
        return min(longest, usual, *([STATIC_CONTEXT] if request.target in ("openvino", "qnn") else []))
    if not least <= request.context <= longest:
        raise ConversionFailed(f"The model can have {least} to {longest:,} tokens of context, not {request.context:,}.")
    return request.context


def _fitting_recipe(checkpoint: Checkpoint) -> RecipeName:
    """int4 for what is in 4 bits already, or is so large that its speed is that of memory; else int8."""
    return "int4" if checkpoint.in_4_bits or checkpoint.architecture.large else "int8"
