"""A deeper stack of layers from a graph of a shorter one.

Lowering is Python walking a graph: it takes seconds for every layer, though all layers of a kind come out alike. So
only a short stack is lowered, and the instructions of one layer are repeated in the program that results.

The instructions from one layer's attention to the next layer's are a period of the program: the layer's attention and
MLP, and the next one's norm and projections. A period's arguments are compared with those of the period
before: an argument that both share is the whole program's (positions, tables), one that the period before has somewhere
else comes from there (the residual stream), and any other is the layer's own (activations, caches, weights).
"""

import copy
import itertools
import re
from collections.abc import Sequence
from typing import TypeVar

from executorch.exir.schema import (
    BackendDelegate,
    BackendDelegateDataReference,
    BackendDelegateInlineData,
    Buffer,
    DataLocation,
    DelegateCall,
    EValue,
    Instruction,
    KernelCall,
    Tensor,
)

from .graph import Lists, TracedGraph, key_of, rekey
from .memory import plan_memory

ATTENTION = "falcon::attention"
"""The operator that each layer has one of."""
REPEATABLE = 3
"""Equal layers in a row that are needed for repeating one: it, the one before it, and one after it."""
LAYER = re.compile(r"layers\.(\d+)\.")

Kind = TypeVar("Kind")


def shortened(layers: Sequence[Kind]) -> tuple[Kind, ...]:
    """The shortest stack from which `stacked` makes this one: of equal layers in a row, no more than REPEATABLE."""
    return tuple(kind for _, run in itertools.groupby(layers) for kind in list(run)[:REPEATABLE])


def stacked(graph: TracedGraph, layers: Sequence[str]) -> TracedGraph:
    """`graph`, which has the layers `shortened(layers)`, with the layers `layers`."""
    assert tuple(graph.layers) == shortened(layers)
    graph = copy.deepcopy(graph)
    end = len(layers)
    for kind, run in reversed([(kind, len(list(run))) for kind, run in itertools.groupby(layers)]):
        end -= run
        if run > REPEATABLE:
            first = len(shortened(layers[:end]))
            assert graph.layers[first : first + REPEATABLE] == [kind] * REPEATABLE
            _repeat(graph, first + 1, run - REPEATABLE)
    assert graph.layers == list(layers)
    plan_memory(graph)
    return graph


def _repeat(graph: TracedGraph, layer: int, times: int) -> None:
    """Inserts `times` copies of the layer `layer`, whose neighbours are of its kind, after it."""
    plan = graph.plan
    instructions: list[Instruction] = plan.chains[0].instructions
    begins = _begins(graph)
    before, period = (instructions[begins[i] : begins[i + 1]] for i in (layer - 1, layer))
    tail = instructions[begins[layer + 1] :]
    earlier, original = (_arguments(graph, part) for part in (before, period))
    assert len(earlier) == len(original)
    weights = _weights(graph, period, original)
    after = [name for name in graph.weights if name not in weights and _number(name) > layer]
    graph.rename({name: _shifted(name, times) for name in after})
    from_before = {value: place for place, value in reversed(list(enumerate(earlier)))}

    previous, copies = original, list[Instruction]()
    for shift in range(1, times + 1):
        values, own = dict[int, int](), list[EValue]()
        for place, value in enumerate(original):
            if value in values or value == earlier[place]:
                continue
            if value in from_before:
                values[value] = previous[from_before[value]]
            else:
                values[value] = len(plan.values)
                own.append(copy.deepcopy(plan.values[value]))
                plan.values.append(own[-1])
        for copied in own:
            _adopt(graph, copied.val, values, shift)
        copies += [_copied(graph, instruction, values, weights, shift) for instruction in period]
        previous = [values.get(value, value) for value in original]
    last = {value: copied for value, copied in zip(original, previous, strict=True) if value != copied}
    for instruction in tail:
        _redirect(graph, instruction, last)
    at = begins[layer + 1]
    instructions[at:at] = copies
    graph.layers[layer + 1 : layer + 1] = [graph.layers[layer]] * times


def _begins(graph: TracedGraph) -> list[int]:
    """Index of each layer's attention."""
    operators, instructions = graph.plan.operators, graph.plan.chains[0].instructions
    return [
        i
        for i, instruction in enumerate(instructions)
        if isinstance(call := instruction.instr_args, KernelCall) and operators[call.op_index].name == ATTENTION
    ]


def _arguments(graph: TracedGraph, instructions: list[Instruction]) -> list[int]:
    """The values that instructions take, one call after the other.

    What is in a list stands before it: a program is read in order, and a list can name only what has been read.
    """
    found = list[int]()
    for instruction in instructions:
        for value in instruction.instr_args.args:
            content = graph.plan.values[value].val
            if isinstance(content, Lists):
                found += content.items
            found.append(value)
    return found


def _weights(graph: TracedGraph, instructions: list[Instruction], arguments: list[int]) -> list[str]:
    """The weights that instructions use: those of a layer's attention and MLP, and of the next one's projections."""
    contents = [graph.plan.values[value].val for value in arguments]
    constants = [graph.constants.get(content.data_buffer_idx) for content in contents if isinstance(content, Tensor)]
    calls = [instruction.instr_args for instruction in instructions]
    blobs = [_blob(graph, call.delegate_index) for call in calls if isinstance(call, DelegateCall)]
    named = [name for key, name in graph.named.items() if any(key.encode() in blob for blob in blobs)]
    return [name for name in constants + named if isinstance(name, str) and _number(name) >= 0]


def _adopt(graph: TracedGraph, content: object, values: dict[int, int], shift: int) -> None:
    """Makes a copied value the own one of the layer that is `shift` layers further."""
    if isinstance(content, Lists):
        content.items = [values.get(item, item) for item in content.items]
    elif isinstance(content, Tensor) and _number(name := graph.constants.get(content.data_buffer_idx, "")) >= 0:
        graph.program.constant_buffer.append(Buffer(b""))
        content.data_buffer_idx = len(graph.program.constant_buffer) - 1
        graph.constants[content.data_buffer_idx] = _shifted(name, shift)
        graph.weights[_shifted(name, shift)] = graph.weights[name]


def _copied(
    graph: TracedGraph, instruction: Instruction, values: dict[int, int], weights: list[str], shift: int
) -> Instruction:
    call = copy.deepcopy(instruction.instr_args)
    call.args = [values.get(value, value) for value in call.args]
    if isinstance(call, DelegateCall):
        call.delegate_index = _copied_delegate(graph, call.delegate_index, weights, shift)
    return Instruction(call)


def _copied_delegate(graph: TracedGraph, index: int, weights: list[str], shift: int) -> int:
    """A copy of a delegate with the weights of the layer that is `shift` layers further."""
    plan, blobs = graph.plan, graph.program.backend_delegate_data
    original: BackendDelegate = plan.delegates[index]
    at, blob = original.processed.index, _blob(graph, index)
    keys = {key_of(name).encode(): key_of(_shifted(name, shift)).encode() for name in weights}
    if (copied := rekey(blob, keys)) != blob:
        at = len(blobs)
        blobs.append(BackendDelegateInlineData(copied))
        for key, name in list(graph.named.items()):
            if name in weights and key.encode() in blob:
                assert isinstance(name, str)
                graph.named[rekey(key.encode(), keys).decode()] = _shifted(name, shift)
                graph.weights[_shifted(name, shift)] = graph.weights[name]
    reference = BackendDelegateDataReference(DataLocation.INLINE, at)
    plan.delegates.append(BackendDelegate(original.id, reference, copy.deepcopy(original.compile_specs)))
    return len(plan.delegates) - 1


def _blob(graph: TracedGraph, delegate: int) -> bytes:
    return graph.program.backend_delegate_data[graph.plan.delegates[delegate].processed.index].data


def _redirect(graph: TracedGraph, instruction: Instruction, values: dict[int, int]) -> None:
    """Lets an instruction take other values."""
    call = instruction.instr_args
    for value in call.args:
        content = graph.plan.values[value].val
        if isinstance(content, Lists):
            content.items = [values.get(item, item) for item in content.items]
    call.args = [values.get(value, value) for value in call.args]


def _number(weight: str) -> int:
    """Number of the layer that a weight belongs to; -1 if to none."""
    match = LAYER.match(weight)
    return int(match[1]) if match else -1


def _shifted(weight: str, by: int) -> str:
    return LAYER.sub(f"layers.{_number(weight) + by}.", weight, count=1)
