"""ExecuTorch's binary interface: the one place that knows the names of its functions in the library, and the layout in
memory of what it passes and is passed. docs/executorch.md says how to move to another release.

Sources: the headers of ExecuTorch's Python package (`executorch/include`), extension/module/module.h,
runtime/core/evalue.h, runtime/core/hierarchical_allocator.h, runtime/core/result.h,
runtime/core/portable_type/tensor_impl.h, runtime/executor/method.h, runtime/executor/method_meta.h,
runtime/kernel/operator_registry.h, runtime/kernel/kernel_runtime_context.h and extension/threadpool/threadpool.h;
pthreadpool.h; for std::string, libstdc++'s basic_string.h.
"""

import ctypes
from ctypes import c_bool, c_char, c_char_p, c_int8, c_int32, c_int64, c_size_t, c_uint8, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import executorch

MAX_THREADS = 128
CHAR, INT, LONG, HALF, FLOAT = 1, 3, 4, 5, 6
"""int8, int32, int64, float16 and float32 as a ScalarType."""
TENSOR = 1
"""A tensor as a Tag, the kind of an EValue."""
FAILURE, INVALID_ARGUMENT = 16, 0x12
"""Offset in a KernelRuntimeContext of the error (int32) that ends a forward, and the error that a kernel sets."""
FLAG_DISABLE_DENORMALS = 1
"""Of pthreadpool: numbers too small for float32's full precision count as zero, which is faster."""
MODULE_SIZE = 4096
"""Bytes, more than a Module has."""
MMAP, MMAP_AND_LOCK, CONSISTENT = 1, 3, 1
"""How a Module reads its file: it maps it, or also locks the pages in memory if that is allowed. And what it verifies:
that the program is consistent in itself."""

_MODULE, _META = "_ZN10executorch9extension6module6Module", "_ZNK10executorch7runtime10MethodMeta"
_NAME = "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
_OWNED = "St10unique_ptrINS_7runtime11EventTracerESt14default_deleteISE_EESC_INSD_15MemoryAllocatorESF_ISI_EESK_b"
REGISTER_KERNELS = "_ZN10executorch7runtime16register_kernelsENS0_4SpanIKNS0_6KernelEEE"
MODULE_CONSTRUCTOR = f"{_MODULE}C1E{_NAME}NS2_8LoadModeE{_OWNED}"
MODULE_WITH_DATA_CONSTRUCTOR = f"{_MODULE}C1E{_NAME}SA_NS2_8LoadModeE{_OWNED}"
MODULE_DESTRUCTOR = f"{_MODULE}D1Ev"
MODULE_LOAD = f"{_MODULE}4loadENS_7runtime7Program12VerificationE"
MODULE_META = f"{_MODULE}11method_metaE{_NAME}"
MODULE_LOAD_METHOD = (
    f"{_MODULE}11load_methodE{_NAME}PNS_7runtime21HierarchicalAllocatorEPNSB_11EventTracerEPKNSB_21LoadBackendOptionsMapE"
    "St6vectorINSB_6KernelESaISK_EE"
)
MODULE_METHOD = f"{_MODULE}6methodE{_NAME}"
METHOD_SET_INPUT = "_ZN10executorch7runtime6Method9set_inputERKNS0_6EValueEm"
METHOD_EXECUTE = "_ZN10executorch7runtime6Method7executeEv"
METHOD_OUTPUT = "_ZN10executorch7runtime6Method14mutable_outputEm"
META_BUFFERS, META_BUFFER_SIZE = f"{_META}26num_memory_planned_buffersEv", f"{_META}26memory_planned_buffer_sizeEm"
META_INPUTS, META_OUTPUTS = f"{_META}10num_inputsEv", f"{_META}11num_outputsEv"
META_INPUT, META_OUTPUT = f"{_META}17input_tensor_metaEm", f"{_META}18output_tensor_metaEm"
REGISTERED_KERNELS = "_ZN10executorch7runtime22get_registered_kernelsEv"
GET_PTHREADPOOL = "_ZN10executorch9extension10threadpool15get_pthreadpoolEv"
GET_THREADPOOL = "_ZN10executorch9extension10threadpool14get_threadpoolEv"
THREADS = "_ZNK10executorch9extension10threadpool10ThreadPool16get_thread_countEv"
SET_THREADS = "_ZN10executorch9extension10threadpool10ThreadPool24_unsafe_reset_threadpoolEj"


class String(ctypes.Structure):
    """std::string."""

    _fields_ = (("address", c_char_p), ("length", c_size_t), ("short", c_char * 16))


class Vector(ctypes.Structure):
    """std::vector, empty unless it is given something."""

    _fields_ = (("begin", c_void_p), ("end", c_void_p), ("end_of_room", c_void_p))


class Sizes(ctypes.Structure):
    """Span<const int32_t>."""

    _fields_ = (("address", ctypes.POINTER(c_int32)), ("count", c_size_t))


class Kernels(ctypes.Structure):
    """Span<const Kernel>."""

    _fields_ = (("address", c_void_p), ("count", c_size_t))


class Buffer(ctypes.Structure):
    """Span<uint8_t>."""

    _fields_ = (("address", c_void_p), ("size", c_size_t))


class PlannedMemory(ctypes.Structure):
    """HierarchicalAllocator: where a method's tensors lie, in as many buffers as its plan names. `unused` is for its
    deprecated constructor, and there are no `devices`. A release that looks elsewhere finds zeros: no buffers, and the
    method does not load."""

    _fields_ = (
        ("unused", Buffer * 16),
        ("buffers", c_void_p),
        ("count", c_size_t),
        ("devices", Buffer),
        ("more", Buffer * 16),
    )


class TensorImpl(ctypes.Structure):
    _fields_ = (
        ("sizes", c_void_p),  # int32 each
        ("dim_order", c_void_p),  # uint8 each
        ("strides", c_void_p),  # int32 each
        ("data", c_void_p),
        ("dim", c_int64),
        ("numel", c_int64),
        ("numel_bound", c_size_t),
        ("type", c_int8),
        ("dynamism", c_uint8),  # 0: the sizes do not change.
        ("device_type", c_int8),
        ("device_index", c_int8),
    )


class EValue(ctypes.Structure):
    """The payload of a tensor is the address of its TensorImpl."""

    _fields_ = (("payload", c_void_p), ("tag", c_uint32))


class Result(ctypes.Structure):
    """Result<T> of a T of eight bytes, an address. Of more than 16 bytes, so that it is returned in memory, as C++ does
    with anything that has a destructor."""

    _fields_ = (("value", c_void_p), ("there", c_bool), ("more", c_int64 * 2))


class TensorResult(ctypes.Structure):
    """Result<TensorInfo>."""

    _fields_ = (
        ("sizes", Sizes),
        ("dim_order", c_int64 * 2),
        ("name", c_int64 * 2),
        ("type", c_int8),
        ("planned", c_bool),
        ("bytes", c_size_t),
        ("there", c_bool),
    )


class Kernel(ctypes.Structure):
    _fields_ = (("name", c_char_p), ("key", c_void_p), ("function", c_void_p))


SIZES, STRIDES, DATA = TensorImpl.sizes.offset, TensorImpl.strides.offset, TensorImpl.data.offset
NUMEL, TYPE = TensorImpl.numel.offset, TensorImpl.type.offset

_alive: list[Any] = []
"""What ExecuTorch points to, for as long as the process lives."""


def function(symbol: str, returns: Any = None, library: str = "libexecutorch") -> Any:
    """A function of the library. Errors: AttributeError if it has none of this name."""
    found = _library(library)[symbol]
    found.restype = returns
    return found


def register(operator: str, address: int) -> None:
    """Makes the C function at `address`, void(context, arguments, count), ExecuTorch's kernel of the operator
    `falcon::<operator>`. `arguments` is an array of `count` addresses of EValues, the last two of which are both the
    result."""
    entry = Kernel(f"falcon::{operator}.out".encode(), None, address)
    error = function(REGISTER_KERNELS, c_uint32)(ctypes.byref(entry), c_size_t(1))
    assert error == 0, f"ExecuTorch refuses the kernel of falcon::{operator}: error {error}"
    _alive.append(entry)


def use_own_kernels() -> None:
    """Loads ExecuTorch's own kernels and XNNPACK, which make themselves known to it."""
    for name in ("libexecutorch_kernels_optimized", "libexecutorch_backend_xnnpack"):
        _library(name)


def use_kernels_of_language_models() -> None:
    """Loads ExecuTorch's kernels for quantized numbers, and those for language models. The latter are in a library that
    brings torch's with it: they need half a second and 110 MB, but not its Python package."""
    _library("libexecutorch_kernels_quantized")
    (folder,) = executorch.__path__
    _load(Path(folder) / "extension" / "llm" / "custom_ops" / "libcustom_ops_aot_lib.so")


def use_backend(library: str) -> None:
    """Loads what hands parts of a program to somebody else's library."""
    _library(library)


def registered_operators() -> set[str]:
    """The operators that there are kernels of, with their overloads: `aten::add.out`."""
    kernels = function(REGISTERED_KERNELS, Kernels)()
    found = (Kernel * kernels.count).from_address(kernels.address)
    return {kernel.name.decode() for kernel in found}


def use_threads(count: int) -> None:
    """Makes the thread pool one of so many threads, at most `MAX_THREADS`. One that is stays: what XNNPACK has loaded
    holds on to it."""
    pool, count = function(GET_THREADPOOL, c_void_p, "libexecutorch_threadpool")(), min(count, MAX_THREADS)
    if function(THREADS, c_size_t, "libexecutorch_threadpool")(c_void_p(pool)) != count:
        function(SET_THREADS, c_bool, "libexecutorch_threadpool")(c_void_p(pool), c_uint32(count))


def thread_pool() -> int:
    """Address of ExecuTorch's thread pool. It is another one after its size was set."""
    return int(function(GET_PTHREADPOOL, c_size_t, "libexecutorch_threadpool")())


def address_of_parallelize(with_thread: bool) -> int:
    """Of the pool's function that calls task(argument, i) for each i below a count, or task(argument, thread, i)."""
    name = "pthreadpool_parallelize_1d" + "_with_thread" * with_thread
    return ctypes.cast(_library("libexecutorch_threadpool")[name], c_void_p).value or 0


@cache
def _library(name: str) -> ctypes.CDLL:
    (folder,) = executorch.__path__
    return _load(Path(folder) / "lib" / f"{name}.so")


def _load(path: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(path))
