"""What ExecuTorch knows of the kernels."""

import ctypes
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.architecture import MAX_LAYERS
from ...models.recipes import BLOCK, Scheme
from ...system.instruction_sets import chosen
from . import abi
from . import attention_workspace as attention
from . import linear_workspace as linear
from .attention_workspace import Heads
from .compiled import addresses
from .workspace import Workspace, bind

ATTENTION, LINEAR = f"{__package__}.attention:", f"{__package__}.linear:"
"""What makes the kernels, for `addresses`."""
Announce = Callable[[], None]
"""Called before something is compiled, which takes seconds."""


class Kernels:
    """The kernels of a process and the memory that they work in, for all models that it has. What ExecuTorch knows of
    them stays, so that there is one of this: `KERNELS`."""

    def __init__(self) -> None:
        self._pool = np.zeros(1, np.int64)
        self._attention = Workspace(attention.TABLE)
        self._attentions = self._attention.allocate("kernels", (attention.MAX_KERNELS,), attention.KERNEL)
        self._caches = self._attention.allocate("caches", (MAX_LAYERS,), attention.CACHE)
        self._heads: dict[Heads, Workspace] = {}
        self._products = self._workspace(linear.WORKSPACE)
        self._multiplications = self._products.allocate("schemes", (linear.MAX_SCHEMES,), linear.SCHEME)
        self._schemes: list[Scheme] = []
        self._blocks = 0

    def use_pool(self) -> None:
        """Lets the kernels work on ExecuTorch's thread pool as it is now, of at most `abi.MAX_THREADS` threads."""
        self._pool[0] = abi.thread_pool()

    def use_attention(self, heads: Heads, announce: Announce) -> None:
        """Makes the attention of such heads known to ExecuTorch."""
        if heads in self._heads:
            return
        if not self._heads:
            (kernel,) = addresses(ATTENTION + "attention", announce=announce).values()
            abi.register("attention", bind(kernel, self._attention.address))
        workspace = self._workspace(attention.WORKSPACE)
        attention.make_room(workspace, heads)
        for step in ("rotate", "merge"):
            workspace.set(**addresses(ATTENTION + step, heads, announce=announce))
        workspace.set(**addresses(ATTENTION + "attend", heads, chosen(), announce=announce))
        (kernel,) = addresses(ATTENTION + "attention_of_heads", heads, announce=announce).values()
        entry = heads.all, heads.kv, heads.size, heads.item, kernel, workspace.address
        self._attentions[len(self._heads)] = entry
        self._heads[heads] = workspace
        self._attention.set(count=len(self._heads))

    def caches_of(self, forward: Callable[[], object]) -> list[NDArray[np.uint8]]:
        """The KV caches that a forward uses, in place: bytes [slots, 2 * kv_heads, tokens, bytes of a token]. Keys and
        values of a head's first n tokens are its first n where n is a multiple of `CACHE_BLOCK`."""
        self._attention.set(noted=0)
        forward()
        return [_bytes_at(address, shape) for address, *shape in self._caches[: self._attention.get("noted")].tolist()]

    def use_products(self, schemes: set[Scheme], inputs: int, announce: Announce) -> None:
        """Makes the products with weights of these schemes known to ExecuTorch, and the embedding; rows have so many
        inputs at most."""
        if not self._schemes:
            self._register_products(announce)
        for scheme in schemes.difference(self._schemes):
            (multiply,) = addresses(LINEAR + "multiply", scheme, chosen(), announce=announce).values()
            entry = scheme.block_bytes, scheme.head_bytes, scheme.bits, scheme.zero, multiply
            self._multiplications[len(self._schemes)] = entry
            self._schemes.append(scheme)
        self._products.set(scheme_count=len(self._schemes))
        if inputs // BLOCK > self._blocks:
            self._blocks = inputs // BLOCK
            linear.make_room(self._products, self._blocks)

    def _register_products(self, announce: Announce) -> None:
        functions = addresses(LINEAR + "linear", announce=announce)
        self._products.set(quantize=functions["quantize"])
        product = bind(functions["linear"], self._products.address)
        for operator in ("norm_linear", "linear_add", "gated_linear_add"):
            abi.register(operator, product)
        (kernel,) = addresses(f"{__package__}.embedding:embedding", announce=announce).values()
        abi.register("embedding", bind(kernel, self._products.address))

    def _workspace(self, layout: np.dtype[Any]) -> Workspace:
        workspace = Workspace(layout)
        workspace.set(
            pool=self._pool.ctypes.data,
            parallelize=abi.address_of_parallelize(with_thread=False),
            parallelize_with_thread=abi.address_of_parallelize(with_thread=True),
        )
        return workspace


def _bytes_at(address: int, shape: list[int]) -> NDArray[np.uint8]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * prod(shape)).from_address(address)).reshape(shape)


KERNELS = Kernels()
