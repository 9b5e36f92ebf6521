"""A program of ExecuTorch's, loaded and called through its C++ library.

The extension in its Python package needs torch, whose import takes more time and memory than all the rest of a small
model's engine.
"""

import ctypes
import os
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernels import abi
from .kernels.abi import EValue, TensorImpl

TYPES = {np.dtype(np.int32): abi.INT, np.dtype(np.int64): abi.LONG, np.dtype(np.float32): abi.FLOAT}
FORWARD = b"forward"
LINE_BYTES = 64
"""Of a processor's cache."""
MAX_TENSORS = 256
"""That are kept for their shapes."""
Tensors = list[tuple[int, list[int]]]
"""The ScalarType and the largest shape of each."""


class Module:
    """The method "forward" of the program in a file, whose weights may be in another one, `data`. With `lock`, both
    stay in memory, if that is allowed. Errors of ExecuTorch's are RuntimeErrors; what was printed to stderr says
    more."""

    def __init__(self, path: str, data: str | None = None, lock: bool = True):
        abi.use_own_kernels()
        self._module = ctypes.create_string_buffer(abi.MODULE_SIZE)
        names = [_string(os.fsencode(name)) for name in (path, data) if name is not None]
        mode, nothing = abi.MMAP_AND_LOCK if lock else abi.MMAP, ctypes.byref(ctypes.c_void_p())
        construct = abi.function(abi.MODULE_CONSTRUCTOR if data is None else abi.MODULE_WITH_DATA_CONSTRUCTOR)
        files = map(ctypes.byref, names)
        construct(self._module, *files, mode, nothing, nothing, nothing, ctypes.c_bool(False))
        self._planned: list[Any] = []
        weakref.finalize(self, _destroy, self._module, self._planned)
        _succeed("load the program", abi.function(abi.MODULE_LOAD, ctypes.c_uint32)(self._module, abi.CONSISTENT))
        self._method: int | None = None
        self._tensors: dict[Any, _Tensor] = {}
        self._set_input = abi.function(abi.METHOD_SET_INPUT, ctypes.c_uint32)
        self._execute = abi.function(abi.METHOD_EXECUTE, ctypes.c_uint32)
        self._output = abi.function(abi.METHOD_OUTPUT, ctypes.POINTER(EValue))

    def signature(self) -> tuple[Tensors, Tensors]:
        """Its inputs and its outputs."""
        meta = ctypes.byref(self._of_forward(abi.MODULE_META))

        def tensors(count: str, one: str) -> Tensors:
            number, describe = abi.function(count, ctypes.c_size_t)(meta), abi.function(one, abi.TensorResult)
            return [_described(describe(meta, ctypes.c_size_t(i))) for i in range(number)]

        return tensors(abi.META_INPUTS, abi.META_INPUT), tensors(abi.META_OUTPUTS, abi.META_OUTPUT)

    def forward(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """The first output, float32, valid until the next call and while this lives. Inputs are int32, int64 or
        float32."""
        if self._method is None:
            self._method = self._load()
        method = ctypes.c_void_p(self._method)
        for index, array in enumerate(inputs):
            problem = self._set_input(method, self._tensor(index, array), ctypes.c_size_t(index))
            _succeed(f"take input {index}", problem)
        _succeed("execute the method", self._execute(method))
        result = TensorImpl.from_address(self._output(method, ctypes.c_size_t(0)).contents.payload or 0)
        shape = (ctypes.c_int32 * result.dim).from_address(result.sizes)
        numbers = (ctypes.c_float * result.numel).from_address(result.data)
        return np.frombuffer(numbers, np.float32).reshape(tuple(shape))

    def _load(self) -> int | None:
        """Loads the method; its address. The memory for its tensors is ours: ExecuTorch would write zeros to all of it,
        KV caches included, which takes seconds and memory that may never be needed."""
        meta = ctypes.byref(self._of_forward(abi.MODULE_META))
        size_of = abi.function(abi.META_BUFFER_SIZE, abi.Result)
        count = abi.function(abi.META_BUFFERS, ctypes.c_size_t)(meta)
        sizes = [size_of(meta, ctypes.c_size_t(i)).value or 0 for i in range(count)]
        try:
            arrays = list(map(_zeros, sizes))
        except (MemoryError, ValueError) as error:
            raise RuntimeError(f"there is no room for the {sum(sizes):,} bytes that its tensors take") from error
        buffers = (abi.Buffer * count)(*((array.ctypes.data, array.size) for array in arrays))
        memory = abi.PlannedMemory(buffers=ctypes.addressof(buffers), count=count)
        self._planned += arrays, buffers, memory
        load, nothing = abi.function(abi.MODULE_LOAD_METHOD, ctypes.c_uint32), ctypes.c_void_p()
        name, planned, kernels = (ctypes.byref(argument) for argument in (_string(FORWARD), memory, abi.Vector()))
        _succeed("load the method", load(self._module, name, planned, nothing, nothing, kernels))
        return self._of_forward(abi.MODULE_METHOD).value

    def _tensor(self, index: int, array: NDArray[Any]) -> Any:
        """Reference to an EValue with these numbers. One is kept for each input and shape: making it takes longer than
        filling it, and in decode the shapes recur."""
        key = index, array.shape, array.dtype
        if key not in self._tensors:
            if len(self._tensors) >= MAX_TENSORS:  # As those of a program without a cache, whose text grows.
                self._tensors.clear()
            self._tensors[key] = _Tensor(array)
        tensor = self._tensors[key]
        tensor.array[...] = array
        return tensor.reference

    def _of_forward(self, symbol: str) -> ctypes.c_void_p:
        """What a function of the module returns for the method's name: an address."""
        result = abi.function(symbol, abi.Result)(self._module, ctypes.byref(_string(FORWARD)))
        _succeed("load the method", 0 if result.there else result.value or 1)
        return ctypes.c_void_p(result.value)


class _Tensor:
    """Numbers like those of an array as ExecuTorch takes them."""

    def __init__(self, array: NDArray[Any]):
        dim = array.ndim
        self.array = array = array.copy()
        self._sizes = (ctypes.c_int32 * dim)(*array.shape)
        self._order = (ctypes.c_uint8 * dim)(*range(dim))
        self._strides = (ctypes.c_int32 * dim)(*(stride // array.itemsize for stride in array.strides))
        places = (ctypes.addressof(lengths) for lengths in (self._sizes, self._order, self._strides))
        self._impl = TensorImpl(*places, array.ctypes.data, dim, array.size, array.size, TYPES[array.dtype])
        self._value = EValue(ctypes.addressof(self._impl), abi.TENSOR)
        self.reference = ctypes.byref(self._value)


def _destroy(module: Any, planned: list[Any]) -> None:
    abi.function(abi.MODULE_DESTRUCTOR)(module)
    planned.clear()


def _zeros(size: int) -> NDArray[np.uint8]:
    """Bytes that lie as a processor reads them best. Those of a large array take no memory before they are written."""
    room = np.zeros(size + LINE_BYTES, np.uint8)
    start = -room.ctypes.data % LINE_BYTES
    return room[start : start + size]


def _string(text: bytes) -> abi.String:
    return abi.String(text, len(text))


def _described(result: abi.TensorResult) -> tuple[int, list[int]]:
    _succeed("describe its tensors", 0 if result.there else abi.INVALID_ARGUMENT)
    return result.type, list(result.sizes.address[: result.sizes.count])


def _succeed(what: str, error: int) -> None:
    if error:
        raise RuntimeError(f"ExecuTorch cannot {what}: error 0x{error & 0xFFFFFFFF:x}")
