"""The live GPU with no GPU: NVRTC really compiles where it is installed; a recording stub stands for the driver.

The stub's signatures are those of cuda-bindings 13.5; the same calls went once through the real bindings into a C library
that stood for libcuda (2026-11-21): pointers, int, float and double arrived as here.
"""

import ctypes
import types
from enum import IntEnum

import numpy as np
import pytest

from costmodel.errors import MeasureError
from costmodel.measure import cuda_gpu, nvrtc
from costmodel.measure.cuda_gpu import STICKY, CudaGpu
from costmodel.measure.gpu import CompileError, GpuError, Launch, OutOfMemoryError, StickyError, find_gpu
from costmodel.measure.rocm_gpu import RocmGpu
from costmodel.measure.streams import event_times_s, packed

SCALE = """
extern "C" __global__ void scale(float* a, int n, float x) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) a[i] = FACTOR * x * a[i];
}
"""


class Results(IntEnum):
    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_ILLEGAL_ADDRESS = 700


class Names:
    """Stands for an enum of the driver: an attribute's value is its own name."""

    def __getattr__(self, name):
        return name


class Driver:
    """Records calls and answers like a driver on compute capability 9.0."""

    CUdevice_attribute, CUfunction_attribute, CUstream = Names(), Names(), staticmethod(lambda address: ("stream", address))

    def __init__(self):
        self.calls, self.fails = [], {}

    def __getattr__(self, name):
        def call(*arguments):
            self.calls.append((name, *arguments))
            result = self.fails.get(name, Results.CUDA_SUCCESS)
            given = {
                "cuGetErrorString": (b"why",),
                "cuDeviceGet": (0,),
                "cuDevicePrimaryCtxRetain": ("context",),
                "cuDeviceGetPCIBusId": (b"0000:0B:00.0\0\0\0",),
                "cuDriverGetVersion": (13020,),
                "cuDeviceTotalMem": (1 << 37,),
                "cuModuleLoadData": ("module",),
                "cuModuleGetFunction": ("function",),
                "cuModuleGetGlobal": ("symbol", 16),
            }
            if name == "cuDeviceGetAttribute":
                value = {"COMPUTE_CAPABILITY_MAJOR": 9, "COMPUTE_CAPABILITY_MINOR": 0, "MULTIPROCESSOR_COUNT": 132}
                return result, value.get(arguments[0].removeprefix("CU_DEVICE_ATTRIBUTE_"), 7)
            if name == "cuFuncGetAttribute":
                return result, {"NUM_REGS": 40, "SHARED_SIZE_BYTES": 2048, "LOCAL_SIZE_BYTES": 8}[arguments[0][18:]]
            return (result, *given.get(name, ()))

        return call

    def called(self, name):
        return [call[1:] for call in self.calls if call[0] == name]


class Tensor:
    def __init__(self, address):
        self.address = address

    def data_ptr(self):
        return self.address


def torch_stub(**more):
    cuda = types.SimpleNamespace(
        set_device=lambda index: None,
        get_device_name=lambda index: "NVIDIA H200",
        current_stream=lambda: types.SimpleNamespace(cuda_stream=0x99),
        **more,
    )
    return types.SimpleNamespace(cuda=cuda, zeros=lambda *a, **k: None, OutOfMemoryError=MemoryError, __version__="2.11")


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(
        cuda_gpu, "compiled_binary", lambda source, entry, macros, architecture: b"\x7fELF" + architecture.encode()
    )
    monkeypatch.setattr(cuda_gpu, "compiler_version", lambda: "13.0")
    return CudaGpu(0, torch_stub(), Driver())


def at(address, position, kind):
    pointers = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))
    return kind.from_address(pointers[position]).value


def test_arguments_are_laid_out_as_the_driver_reads_them():
    given = [Tensor(2**47 + 5), np.int32(-3), np.float32(0.5), np.int64(2**40), np.float64(1 / 3), np.float16(1.5)]
    laid = packed(given)
    kinds = (ctypes.c_uint64, ctypes.c_int32, ctypes.c_float, ctypes.c_int64, ctypes.c_double, ctypes.c_uint16)
    assert [at(laid.address, i, kind) for i, kind in enumerate(kinds)] == [2**47 + 5, -3, 0.5, 2**40, 1 / 3, 0x3E00]
    assert packed([]).address == 0


@pytest.mark.parametrize("wrong", [3, 0.5, "n", None])
def test_an_argument_of_unknown_width_is_refused(wrong):
    with pytest.raises(MeasureError, match=r"argument 1: .*np.int32"):
        packed([Tensor(1), wrong])


def test_a_launch_names_shape_shared_bytes_and_the_current_stream(gpu):
    program = gpu.build(SCALE, "scale", {"FACTOR": 2})
    assert (program.registers, program.static_shared_bytes, program.local_bytes) == (40, 2048, 8)
    assert program.binary == b"\x7fELFsm_90"
    seen, launched = [], gpu._driver.__getattr__("cuLaunchKernel")

    def launch(*arguments):
        seen.append((at(arguments[9], 0, ctypes.c_uint64), at(arguments[9], 1, ctypes.c_int)))
        return launched(*arguments)

    gpu._driver.cuLaunchKernel = launch
    gpu.start(program, Launch((7, 8, 9), (32, 4, 2), 70000, 100), [Tensor(2**40), np.int32(11)])
    ((function, *numbers, stream, _, extra),) = gpu._driver.called("cuLaunchKernel")
    assert (function, stream, extra) == ("function", ("stream", 0x99), 0)
    assert numbers == [7, 8, 9, 32, 4, 2, 70000]
    assert seen == [(2**40, 11)]
    assert gpu._driver.called("cuFuncSetAttribute") == [
        ("function", "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES", 70000),
        ("function", "CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT", 100),
    ]


def test_driver_errors_become_ours(gpu):
    program = gpu.build(SCALE, "scale", {})
    expected = {"INVALID_VALUE": MeasureError, "OUT_OF_MEMORY": OutOfMemoryError, "ILLEGAL_ADDRESS": StickyError}
    for name, kind in expected.items():
        gpu._driver.fails["cuLaunchKernel"] = Results[f"CUDA_ERROR_{name}"]
        with pytest.raises(MeasureError, match=rf"NVIDIA H200: cuLaunchKernel: CUDA_ERROR_{name}: why") as raised:
            gpu.start(program, Launch((1, 1, 1), (1, 1, 1)), [])
        assert type(raised.value) is kind


def test_an_exception_of_torch_is_explained_by_the_driver(gpu):
    assert gpu.explain(RuntimeError("shapes differ")) is None
    assert gpu.explain(ValueError("CUDA")) is None
    assert isinstance(gpu.explain(MemoryError("tried to allocate\nmore")), OutOfMemoryError)
    gpu._driver.fails["cuCtxSynchronize"] = Results.CUDA_ERROR_ILLEGAL_ADDRESS
    assert isinstance(gpu.explain(RuntimeError("Triton Error [CUDA]")), StickyError)
    with pytest.raises(StickyError, match="start a new process"):
        gpu.synchronize()


def test_constants_are_copied_whole(gpu):
    program = gpu.build(SCALE, "scale", {})
    values = np.arange(4, dtype=np.float32)
    gpu.fill_constant(program, "weights", values)
    assert gpu._driver.called("cuModuleGetGlobal") == [("module", b"weights")]
    assert gpu._driver.called("cuMemcpyHtoD") == [("symbol", values.ctypes.data, 16)]
    with pytest.raises(MeasureError, match="holds 16 bytes, got 12"):
        gpu.fill_constant(program, "weights", values[:3])


def test_facts_are_plain_and_name_the_machine(gpu):
    facts = gpu.facts()
    assert (facts["compute_capability"], facts["sm_count"], facts["memory_bytes"]) == ("9.0", 132, 1 << 37)
    assert facts["cuda"] == "13.2"
    assert facts["clocks"]["sm_hz"] is None  # no NVML here


def test_each_time_lies_between_two_events_behind_a_held_stream():
    queue, clock = [], iter(range(100))

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at = next(clock)
            queue.append("event")

        def elapsed_time(self, other):
            return float(other.at - self.at)

    torch = torch_stub(synchronize=lambda: queue.append("wait"), Event=Event, _sleep=lambda cycles: queue.append("hold"))
    times = event_times_s(torch, lambda: queue.append("run"), 3, before=lambda: queue.append("flush"))
    assert queue == ["run", "wait", "flush", "run", "wait", *3 * ["hold", "flush", "event", "run", "event"], "wait"]
    assert times.tolist() == [1e-3] * 3


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(GpuError, match=r"needs torch .* pip install 'costmodel\[measure\]'"):
        find_gpu()


def test_sticky_results_are_those_the_driver_documents():
    driver = pytest.importorskip("cuda.bindings.driver", reason="cuda-bindings is not installed")
    documented = {int(r) for r in driver.CUresult if "process must be terminated" in " ".join((r.__doc__ or "").split())}
    if not documented:
        pytest.skip("this release of cuda-bindings does not document its results")
    assert documented <= STICKY


@pytest.mark.parametrize("architecture", ["sm_75", "sm_80", "sm_90"])
def test_nvrtc_makes_machine_code(architecture):
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    try:
        binary = nvrtc.compiled_binary(SCALE, "scale", {"FACTOR": 3}, architecture)
    except GpuError as error:
        pytest.skip(str(error))
    assert binary[:4] == b"\x7fELF"
    assert b".text.scale\0" in binary
    assert int.from_bytes(binary[18:20], "little") == 190  # EM_CUDA
    with pytest.raises(CompileError, match=r'(?s)scale\.cu\(4\).*identifier "FACTOR" is undefined'):
        nvrtc.compiled_binary(SCALE, "scale", {}, architecture)


def test_macros_stand_below_the_headers_whose_types_bear_their_names():
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")
    source = (
        '#include <cuda_fp16.h>\nextern "C" __global__ void fill(__half* to) {\n    to[threadIdx.x % T] = __float2half(V);\n}\n'
    )
    try:
        assert nvrtc.compiled_binary(source, "fill", {"T": 32, "V": 1}, "sm_90")[:4] == b"\x7fELF"
    except GpuError as error:
        pytest.skip(str(error))
    with pytest.raises(CompileError, match=r'(?s)fill\.cu\(3\).*identifier "V" is undefined'):
        nvrtc.compiled_binary(source, "fill", {"T": 32}, "sm_90")


class Why:
    """A C function whose result type can be set."""

    restype = None

    def __call__(self, result):
        return b"why"


class Hip:
    """Stands for the HIP library that torch has loaded: records launches, answers as the C functions do."""

    def __init__(self):
        self.launches, self.copies, self.result = [], [], 0
        self.hipGetErrorString = Why()

    def hipFuncGetAttribute(self, value, number, function):
        value._obj.value = {4: 64, 1: 4096, 3: 16}[number]
        return 0

    def hipModuleLaunchKernel(self, function, *rest):
        *shape, stream, pointers, extra = rest
        self.launches.append(([n.value for n in shape], stream.value, at(pointers.value, 1, ctypes.c_int), extra))
        return self.result

    def hipModuleGetGlobal(self, address, length, module, name):
        address._obj.value, length._obj.value = 0x7000, 16
        return 0

    def hipMemcpyHtoD(self, address, source, length):
        self.copies.append((address.value, source.value, length.value))
        return 0


def test_rocm_goes_through_torch_and_its_hip_library():
    hip = Hip()
    kernel = types.SimpleNamespace(func=ctypes.c_void_p(7), module=ctypes.c_void_p(8))
    compiled = []

    def compile_kernel(source, entry):
        compiled.append((entry, source))
        return kernel

    torch = torch_stub(
        _utils=types.SimpleNamespace(_get_gpu_runtime_library=lambda: hip),
        get_device_properties=lambda index: types.SimpleNamespace(
            gcnArchName="gfx90a:sramecc+:xnack-",
            multi_processor_count=104,
            warp_size=64,
            total_memory=1 << 36,
            max_threads_per_multi_processor=2048,
        ),
        _compile_kernel=compile_kernel,
        synchronize=lambda: None,
    )
    torch.version = types.SimpleNamespace(hip="6.4")
    gpu = RocmGpu(0, torch)
    assert gpu.architecture == "gfx90a"
    assert gpu.facts()["sm_count"] == 104
    assert gpu.clocks().sm_hz is None
    program = gpu.build(SCALE, "scale", {"FACTOR": 2})
    assert compiled == [("scale", f"#define FACTOR 2\n#line 1\n{SCALE}")]
    assert (program.registers, program.static_shared_bytes, program.local_bytes) == (64, 4096, 16)
    gpu.start(program, Launch((7, 8, 9), (64, 4, 1), 1024), [Tensor(2**40), np.int32(11)])
    assert hip.launches == [([7, 8, 9, 64, 4, 1, 1024], 0x99, 11, None)]
    values = np.arange(4, dtype=np.float32)
    gpu.fill_constant(program, "weights", values)
    assert hip.copies == [(0x7000, values.ctypes.data, 16)]
    hip.result = 1
    with pytest.raises(MeasureError, match="hipModuleLaunchKernel: 1: why"):
        gpu.start(program, Launch((1, 1, 1), (1, 1, 1)), [Tensor(1), np.int32(0)])
    assert isinstance(gpu.explain(RuntimeError("HIP error: an illegal memory access was encountered")), StickyError)
    assert gpu.explain(RuntimeError("shapes differ")) is None
