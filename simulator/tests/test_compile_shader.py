"""torch.mps.compile_shader as PyTorch documents it."""

from __future__ import annotations

import threading

import pytest
import torch

SOURCE = """
#include <metal_stdlib>
using namespace metal;

kernel void full(device float* out, constant float& value, uint i [[thread_position_in_grid]]) { out[i] = value; }

kernel void arange(device int* out, constant long& start, uint i [[thread_position_in_grid]]) { out[i] = start + i; }

kernel void coordinates(device uint* out, uint3 at [[thread_position_in_grid]], uint3 grid [[threads_per_grid]],
                        uint3 group [[threads_per_threadgroup]]) {
  out[(at.z * grid.y + at.y) * grid.x + at.x] = at.x + 10 * at.y + 100 * at.z + 1000 * group.x;
}

template <typename T>
kernel void axpy(device T* y, device const T* x, constant T* ab, uint i [[thread_position_in_grid]]) {
  y[i] = ab[0] * x[i] + ab[1];
}
template [[host_name("axpy_half")]] kernel void axpy<half>(device half*, device const half*, constant half*, uint);
template [[host_name("axpy_bfloat")]] kernel void axpy<bfloat>(device bfloat*, device const bfloat*, constant bfloat*,
                                                               uint);

kernel void reverse(device const float* in, device float* out, uint i [[thread_position_in_threadgroup]],
                    uint n [[threads_per_threadgroup]], uint g [[threadgroup_position_in_grid]]) {
  threadgroup float tile[64];
  tile[i] = in[g * n + i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  out[g * n + i] = tile[n - 1 - i];
}
"""


@pytest.fixture(scope="module")
def library():
    return torch.mps.compile_shader(SOURCE)


def test_the_documented_example():
    lib = torch.mps.compile_shader(
        "kernel void full(device float* out, constant float& val, uint idx [[thread_position_in_grid]])"
        " { out[idx] = val; }"
    )
    x = torch.zeros(16, device="mps")
    lib.full(x, 3.14)
    assert x.cpu().tolist() == torch.full((16,), 3.14).tolist()


def test_kernels_are_attributes(library):
    assert {"full", "arange", "axpy_half", "axpy_bfloat", "reverse"} <= set(dir(library))
    kernel = library.reverse
    assert kernel.max_threads_per_threadgroup >= 32 and kernel.thread_execution_width == 32
    assert kernel.static_thread_group_memory_length == 256
    with pytest.raises(RuntimeError, match="Failed to create function state object for: missing"):
        getattr(library, "missing")  # noqa: B009


def test_views_are_bound_at_their_offset(library):
    x = torch.zeros(10, device="mps")
    library.full(x[3:6], 2.0)
    assert x.tolist() == [0, 0, 0, 2, 2, 2, 0, 0, 0, 0]


def test_numbers_are_int64_and_float32_unless_cast(library):
    x = torch.zeros(4, dtype=torch.int32, device="mps")
    library.arange(x, 5)
    assert x.tolist() == [5, 6, 7, 8]
    for name, dtype, cast in (("axpy_half", torch.float16, "fp16"), ("axpy_bfloat", torch.bfloat16, "bf16")):
        y, a = torch.zeros(3, dtype=dtype, device="mps"), torch.tensor([1, 2, 3], dtype=dtype, device="mps")
        getattr(library, name)(y, a, (2.0, 0.5), arg_casts=cast)
        assert y.tolist() == [2.5, 4.5, 6.5]
        getattr(library, name)(y, a, [3.0, 1.0], arg_casts={2: cast})
        assert y.tolist() == [4, 7, 10]


def test_grids_and_groups(library):
    out = torch.zeros(2, 3, 4, dtype=torch.int32, device="mps")
    library.coordinates(out, threads=(4, 3, 2), group_size=(2, 3, 1))
    x, y, z = (torch.arange(n) for n in (4, 3, 2))
    expected = x + 10 * y[:, None] + 100 * z[:, None, None] + 2000
    assert torch.equal(out.cpu().long(), expected)
    line = torch.zeros(24, dtype=torch.int32, device="mps")
    library.coordinates(line, threads=24, group_size=8)
    assert line.tolist() == [i + 8000 for i in range(24)]


def test_threadgroup_memory_and_barriers(library):
    x, y = torch.arange(128.0, device="mps"), torch.zeros(128, device="mps")
    library.reverse(x, y, threads=128, group_size=64)
    assert torch.equal(y.cpu(), torch.arange(128.0).view(2, 64).flip(1).reshape(-1))


def test_wrong_calls_are_refused_and_leave_the_device_usable(library):
    x = torch.zeros(4, device="mps")
    with pytest.raises(ValueError, match="Threadgroup size exceeds"):
        library.full(x, 1.0, threads=4096, group_size=4096)
    with pytest.raises(RuntimeError, match="Number of threads is undefined"):
        library.full(1.0)
    with pytest.raises(RuntimeError, match="Unsupported argument type"):
        library.full(x, "1.0")
    with pytest.raises(RuntimeError, match="Empty list"):
        library.full(x, [])
    with pytest.raises(RuntimeError, match="Unsupported cast"):
        library.full(x, 1.0, arg_casts="fp64")
    with pytest.raises(RuntimeError, match="Passed CPU tensor to MPS op"):
        library.full(torch.zeros(4), 1.0)
    with pytest.raises(RuntimeError, match="number of dimensions"):
        library.full(x, 1.0, threads=(4, 1), group_size=4)
    library.full(x, 5.0)
    assert x.tolist() == [5, 5, 5, 5]


def test_a_syntax_error_names_the_line():
    with pytest.raises(SyntaxError) as raised:
        torch.mps.compile_shader("kernel void f(device float* x) {\n  x[0] = 1;\n  y = 2;\n}\n")
    assert "program_source:3:" in str(raised.value) and "undeclared identifier 'y'" in str(raised.value)


def test_headers_of_torch_are_found():
    lib = torch.mps.compile_shader(
        "#include <c10/metal/common.h>\nkernel void width(device uint* out) { out[0] = c10::metal::simdgroup_size; }"
    )
    x = torch.zeros(1, dtype=torch.int32, device="mps")
    lib.width(x)
    assert x.item() == 32


def test_a_kernel_may_report_an_error():
    lib = torch.mps.compile_shader("""
#include <c10/metal/error.h>
#include <metal_stdlib>
using namespace metal;
kernel void check(device float* x, device c10::metal::ErrorMessages* errors, uint i [[thread_position_in_grid]]) {
  if (x[i] >= 0 || atomic_fetch_add_explicit(&errors->count, 1, memory_order_relaxed) > 0) return;
  device auto& first = errors->msg[0];
  first.message[0] = 'n', first.message[1] = 'o', first.message[2] = 0;
  first.file[0] = first.func[0] = 0;
}
""")
    lib.check(torch.ones(4, device="mps"), error_buf_idx=1)
    torch.mps.synchronize()
    lib.check(-torch.ones(4, device="mps"), error_buf_idx=1)
    with pytest.raises(torch.AcceleratorError, match="no"):
        torch.mps.synchronize()
    torch.mps.synchronize()


def test_dispatches_follow_one_another(library):
    x = torch.zeros(1000, device="mps")
    for value in range(200):
        library.full(x, float(value))
    assert (x == 199).all().item()


def test_threads_may_encode_at_once(library):
    tensors = [torch.zeros(500, device="mps") for _ in range(4)]

    def fill(index: int) -> None:
        for value in range(50):
            library.full(tensors[index], float(index * 100 + value))

    threads = [threading.Thread(target=fill, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [tensor[0].item() for tensor in tensors] == [49, 149, 249, 349]
