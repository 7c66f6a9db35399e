"""MLX's kernel headers, which Apple's compiler builds: the simulator's accepts them, and computes what they compute.

They come with the wheel that `make check-mac` downloads.
"""

from __future__ import annotations

import re
import struct
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools" / "mac"))

import wheels

INCLUDE = "mlx/include/mlx/backend/metal/kernels"
FOUND = sorted(wheels.cache().glob(f"{wheels.METAL_CPP.name}-{wheels.METAL_CPP.version}*/{INCLUDE}"))

pytestmark = pytest.mark.skipif(not FOUND, reason="MLX's headers are not here: `make check-mac` downloads them")

# The headers of a source beside utils.h, and the kernels made of their templates, as name<arguments>.
BFLOAT_OPERATORS = "bf16_math.h"  # calls builtins of Apple's compiler that are no part of Metal
SOURCES = {
    "arange": ("arange.h", "arange<float> arange<bfloat16_t>"),
    "binary": ("binary_ops.h binary.h", "binary_vv<half,half,Add> binary_g_nd2<float,bool,Less>"),
    "binary_two": ("binary_ops.h binary_two.h", "binary_vv<float,float,DivMod>"),
    "copy": ("copy.h", "copy_v<float,bfloat16_t> copy_g_nd3<bool,half>"),
    "fft": ("fft.h", "fft<1024,float2,float2> bluestein_fft<1024,float2,float2>"),
    "fp_quantized": (
        "steel/gemm/gemm.h quantized_utils.h fp_quantized.h",
        "fp_qmv_fast<bfloat16_t,32,4,false> fp_qmv<half,32,8,true>",
    ),
    "gather": ("indexing/gather.h", ""),
    "gather_axis": ("indexing/gather_axis.h", "gather_axis<float,int,int,true,false>"),
    "gemv": ("gemv.h", "gemv<float,1,8,1,32,4,4,false,false>"),
    "gemv_masked": ("gemv_masked.h", "gemv_masked<float,bool,half,1,8,1,32,4,4,false>"),
    "hadamard": ("hadamard.h", "hadamard_n<float,64,16,4>"),
    "logsumexp": ("logsumexp.h", "logsumexp<half>"),
    "quantized": (
        "steel/gemm/gemm.h quantized_utils.h quantized.h",
        "affine_qmv_fast<bfloat16_t,64,4,false> affine_qvm<half,32,2,true> affine_qmv_quad<float,64,4,64,false>",
    ),
    "reduce": (
        "atomic.h reduction/ops.h reduce.h",
        "all_reduce<float,float,Sum<float>> row_reduce_simple<half,half,Max<half>> "
        "row_reduce_looped<int,int,Min<int>,int,2>",
    ),
    "scan": ("scan.h", "contiguous_scan<float,float,CumSum<float>,4,true,false>"),
    "scatter": ("atomic.h reduction/ops.h indexing/scatter.h", ""),
    "sdpa_vector": ("sdpa_vector.h", "sdpa_vector<half,64> sdpa_vector_2pass_1<bfloat16_t,128>"),
    "softmax": ("softmax.h", "softmax_single_row<float> softmax_looped<bfloat16_t,float>"),
    "sort": ("sort.h", "block_sort<float,float,false,128,8> block_sort<bfloat16_t,bfloat16_t,false,128,8>"),
    "steel_attention": ("steel/attn/kernels/steel_attention.h", "attention<float,32,16,64,64,4,1>"),
    "steel_conv": (
        "steel/utils.h steel/conv/conv.h steel/conv/kernels/steel_conv.h",
        "implicit_gemm_conv_2d<float,32,8,16,4,1> implicit_gemm_conv_2d<half,64,32,16,2,2,0,true>",
    ),
    "steel_conv_3d": (
        "steel/utils.h steel/conv/conv.h steel/conv/kernels/steel_conv_3d.h",
        "implicit_gemm_conv_3d<float,32,32,16,2,2> implicit_gemm_conv_3d<bfloat16_t,64,32,16,2,2,true>",
    ),
    "steel_gemm_fused": (
        "steel/gemm/gemm.h steel/gemm/kernels/steel_gemm_fused.h",
        "gemm<float,32,32,16,2,2,false,false> gemm<half,64,64,16,2,2,false,true>",
    ),
    "ternary": ("ternary_ops.h ternary.h", "ternary_v<float,Select,false,false>"),
    "unary": ("unary_ops.h unary.h", "unary_v<float,float,Exp> unary_v<half,half,Sigmoid>"),
    "utils": ("", ""),
}


def flat(name: str, seen: set[Path], beside: Path | None = None) -> str:
    """The header with what it includes of MLX's, each file once."""
    folder = FOUND[-1]
    candidates = [folder / name.replace("mlx/backend/metal/kernels/", ""), (beside or folder) / name]
    file = next((c.resolve() for c in candidates if c.is_file()), None)
    if file is None:
        return f"#include <{name}>"
    if file in seen:
        return ""
    seen.add(file)
    pattern = r'^[ \t]*#[ \t]*include[ \t]*[<"](.+?)[>"].*$'
    text = re.sub(r"^#pragma once\n", "", file.read_text(), flags=re.M)
    return re.sub(pattern, lambda m: flat(m[1], seen, file.parent), text, flags=re.M)


def source(name: str) -> str:
    headers, kernels = SOURCES[name]
    seen = {(FOUND[-1] / BFLOAT_OPERATORS).resolve()}
    text = "".join(flat(header, seen) for header in ("defines.h", "utils.h", *headers.split()))
    for i, kernel in enumerate(kernels.split()):
        function, arguments = kernel[:-1].split("<", 1)
        text += f'\ninstantiate_kernel("kernel{i}", {function}, {arguments})\n'
    return text


@pytest.mark.parametrize("name", SOURCES)
def test_accepted(name):
    kernels = SOURCES[name][1].split()
    assert {f"kernel{i}" for i in range(len(kernels))} <= set(dir(torch.mps.compile_shader(source(name))))


def test_bfloat_functions_need_mlxs_own():
    text = source("unary") + '\ninstantiate_kernel("b", unary_v, bfloat16_t, bfloat16_t, Exp)\n'
    with pytest.raises(SyntaxError, match=r"no viable conversion from .*float.* to .*bfloat"):
        torch.mps.compile_shader(text)


def test_softmax():
    x = torch.randn(5, 100, generator=torch.Generator().manual_seed(1))
    out = torch.zeros(5, 100, device="mps")
    torch.mps.compile_shader(source("softmax")).kernel0(x.to("mps"), out, 100, threads=5 * 32, group_size=32)
    torch.testing.assert_close(out.cpu(), x.softmax(1))


def test_matrix_product():
    m, n, k = 64, 32, 48
    a, b = (torch.randn(shape, generator=torch.Generator().manual_seed(2)) for shape in ((m, k), (k, n)))
    out = torch.zeros(m, n, device="mps")
    # mlx::steel::GEMMParams
    sizes = struct.pack("8i3q3i4x", m, n, k, k, n, n, n // 32, m // 32, 0, 0, 0, 0, k // 16, 0)
    parameters = torch.frombuffer(bytearray(sizes), dtype=torch.uint8).to("mps")
    # compile_shader() has no function constants: the whole tiles of one matrix, and no sum with another.
    text = re.sub(
        r"constant bool (\w+) \[\[function_constant\(\d+\)\]\];",
        lambda m: f"constant bool {m[1]} = {str(m[1].startswith('align')).lower()};",
        source("steel_gemm_fused"),
    )
    gemm = torch.mps.compile_shader(text).kernel0
    gemm(a.to("mps"), b.to("mps"), out, out, parameters, threads=(32 * n // 32, 2 * m // 32, 2), group_size=(32, 2, 2))
    torch.testing.assert_close(out.cpu(), a @ b)
