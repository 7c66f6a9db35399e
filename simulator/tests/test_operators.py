"""PyTorch's operators give on `mps` what they give on the CPU, and those that PyTorch lacks there are refused."""

from __future__ import annotations

import importlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from interpreter import run_python
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils._pytree import tree_leaves, tree_map_only

REFUSED = (
    "The operator 'aten::_adaptive_avg_pool3d' is not currently implemented for the MPS device. If you want this op to "
    "be considered for addition please comment on https://github.com/pytorch/pytorch/issues/141287 and mention "
    "use-case, that resulted in missing op as well as commit hash {commit}. As a temporary fix, you can set the "
    "environment variable `PYTORCH_ENABLE_MPS_FALLBACK=1` to use the CPU as a fallback for this op. WARNING: this will "
    "be slower than running natively on MPS."
)

NAMES = [
    "add",
    "addmm",
    "amax",
    "argmax",
    "avg_pool3d(nn.functional)",
    "baddbmm",
    "batch_norm(nn.functional)",
    "bmm",
    "cat",
    "clamp",
    "conv3d(nn.functional)",
    "cross_entropy(nn.functional)",
    "cumsum",
    "diagonal",
    "einsum",
    "embedding(nn.functional)",
    "gather",
    "gelu(nn.functional)",
    "group_norm(nn.functional)",
    "index_add",
    "index_put",
    "index_select",
    "instance_norm(nn.functional)",
    "interpolate(nn.functional)",
    "layer_norm(nn.functional)",
    "linalg.inv",
    "linear(nn.functional)",
    "logsumexp",
    "masked_fill",
    "masked_scatter",
    "matmul",
    "max_pool3d(nn.functional)",
    "nonzero",
    "pad(nn.functional)",
    "roll",
    "scatter_add",
    "softmax",
    "sort",
    "split",
    "std",
    "sum",
    "topk",
    "tril",
    "unfold_copy",
    "unique",
    "where",
]


def name_of(op) -> str:
    module, _, function = op.name.rpartition(".")
    return f"{function}({module})" if module == "nn.functional" else op.name


# The variants with a dtype ask for float64.
OPERATORS = [op for op in op_db if name_of(op) in NAMES and op.variant_test_name != "with_dtype"]


def samples(op):
    inputs = op.sample_inputs("cpu", torch.float32, requires_grad=op.supports_autograd)
    return list(itertools.islice(inputs, 8))


def on_mps(tree):
    return tree_map_only(torch.Tensor, lambda t: t.detach().to("mps").requires_grad_(t.requires_grad), tree)


def gradients(outputs, inputs):
    total = sum(t.sum() for t in tree_leaves(outputs) if isinstance(t, torch.Tensor) and t.requires_grad)
    wanted = [t for t in tree_leaves(inputs) if isinstance(t, torch.Tensor) and t.requires_grad]
    return torch.autograd.grad(total, wanted, allow_unused=True) if wanted and isinstance(total, torch.Tensor) else ()


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.formatted_name)
def test_as_on_the_cpu(op):
    for sample in samples(op):
        inputs = (sample.input, sample.args, sample.kwargs)
        results = []
        for input, args, kwargs in (inputs, on_mps(inputs)):
            outputs = op(input, *args, **kwargs)
            results.append((outputs, gradients(outputs, (input, args, kwargs))))
        expected, actual = results
        for theirs, ours in zip(tree_leaves(expected), tree_leaves(actual)):
            if isinstance(theirs, torch.Tensor):
                assert ours.is_mps and ours.stride() == theirs.stride()
                torch.testing.assert_close(ours.cpu(), theirs, equal_nan=True)
            else:
                assert ours == theirs


def test_the_sweep_is_complete():
    assert {name_of(op) for op in OPERATORS} == set(NAMES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.complex64, torch.int32, torch.bool])
def test_other_dtypes(dtype):
    x = torch.testing.make_tensor(4, 5, dtype=dtype, device="cpu", low=0, high=2)
    y = x.to("mps")
    for f in (
        lambda t: t + t,
        lambda t: t.sum(0),
        lambda t: torch.cat([t, t.T.reshape(4, 5)]),
        lambda t: t == t.clone(),
    ):
        result = f(y)
        assert result.is_mps and result.dtype == f(x).dtype and torch.equal(result.cpu(), f(x))


def test_an_operator_that_mps_lacks_is_refused_in_the_words_of_torch():
    x = torch.ones(1, 2, 4, 4, 4, device="mps")
    with pytest.raises(NotImplementedError) as error:
        torch.nn.functional.adaptive_avg_pool3d(x, 2)
    assert str(error.value) == REFUSED.format(commit=torch.version.git_version)


@pytest.mark.parametrize(
    ("call", "operator"),
    [
        (lambda x: torch.nn.functional.adaptive_max_pool3d(x, 2), "aten::adaptive_max_pool3d.out"),
        (lambda x: torch.heaviside(x, x), "aten::heaviside.out"),
        (lambda x: torch.take(x, torch.tensor([0], device="mps")), "aten::take"),
        (lambda x: x[0, 0, 0].mode(), "aten::mode"),
        (lambda x: torch.ops.quantized.cat([x], 0, 1.0, 0), "quantized::cat"),
    ],
)
def test_others_that_mps_lacks(call, operator):
    with pytest.raises(
        NotImplementedError, match=f"The operator '{operator}' is not currently implemented for the MPS"
    ):
        call(torch.ones(1, 2, 4, 4, 4, device="mps"))


@pytest.mark.parametrize("registered_for", ["cpu", None])
def test_a_custom_operator_needs_a_kernel_for_mps(registered_for):
    @torch.library.custom_op(
        f"mps_simulator_test::twice_{registered_for}", mutates_args=(), device_types=registered_for
    )
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    x = torch.ones(3, device="mps")
    if registered_for is None:
        assert twice(x).tolist() == [2.0] * 3
    else:
        with pytest.raises(NotImplementedError, match="'mps_simulator_test::twice_cpu' is not currently implemented"):
            twice(x)


def test_the_environment_sends_them_to_the_cpu_with_one_warning():
    result = run_python(
        """
import torch
x = torch.arange(16.0).reshape(1, 1, 2, 2, 4)
for _ in range(2):
    y = torch.nn.functional.adaptive_avg_pool3d(x.to("mps"), 2)
assert y.is_mps and torch.equal(y.cpu(), torch.nn.functional.adaptive_avg_pool3d(x, 2))

@torch.library.custom_op("mps_simulator_test::shifted", mutates_args=(), device_types="cpu")
def shifted(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    assert x.is_cpu
    return x + torch.ones(3, device=device)

y = shifted(torch.zeros(3, device="mps"), torch.device("mps"))
assert y.is_mps and y.tolist() == [1, 1, 1]
""",
        PYTORCH_ENABLE_MPS_FALLBACK="1",
    )
    assert result.returncode == 0, result.stderr
    assert (
        result.stderr.count("The operator 'aten::_adaptive_avg_pool3d' is not currently supported on the MPS backend")
        == 1
    )
    assert "and will fall back to run on the CPU. This may have performance implications." in result.stderr


def test_zero_in_the_environment_means_refused():
    program = "import torch; torch.nn.functional.adaptive_avg_pool3d(torch.ones(1, 1, 4, 4, 4, device='mps'), 2)"
    result = run_python(program, PYTORCH_ENABLE_MPS_FALLBACK="0")
    assert result.returncode == 1 and "NotImplementedError: The operator 'aten::_adaptive_avg_pool3d'" in result.stderr


def test_linalg_svd_always_goes_to_the_cpu_as_in_torch():
    x = torch.eye(3, device="mps")
    torch.set_warn_always(True)
    try:
        with pytest.warns(UserWarning, match="The operator 'aten::.*' is not currently supported on the MPS backend"):
            u, s, vh = torch.linalg.svd(x)
    finally:
        torch.set_warn_always(False)
    assert u.is_mps and s.tolist() == [1.0] * 3 and vh.is_mps


def test_the_list_is_that_of_the_installed_torch():
    script = Path(__file__).parents[1] / "cmake" / "operators.py"
    listed = subprocess.run([sys.executable, script, "--refused"], capture_output=True, text=True, check=True)
    refused = set(listed.stdout.split())
    assert {"_adaptive_avg_pool3d", "heaviside.out", "take"} <= refused
    sys.path.insert(0, str(script.parent))
    assert refused == importlib.import_module("operator_table").read()[torch.__version__.rpartition(".")[0]]
    # A kernel of its own, a structured delegate, a composite and a generated variant, none of them refused.
    assert not {"cumsum.out", "max_pool3d_with_indices", "add.Tensor", "conv_transpose3d.input", "relu.out"} & refused


def test_another_version_has_what_it_has():
    program = """
import torch
x = torch.ones(1, 1, 4, 4, 4, device="mps")
for name, call in {
    "max_pool2d": lambda: torch.nn.functional.max_pool2d(x[0], 2),  # always there
    "max_pool3d": lambda: torch.nn.functional.max_pool3d(x, 2),  # since 2.9
    "heaviside": lambda: torch.heaviside(x, x),  # since 2.15
    "mode": lambda: torch.mode(x),  # not yet there
}.items():
    try:
        call()
    except NotImplementedError as error:
        assert "is not currently implemented for the MPS device" in str(error), error
        print(name)
"""
    for version, refused in {
        "2.7": "max_pool3d heaviside mode",
        "2.13": "heaviside mode",
        "2.15": "mode",
    }.items():
        result = run_python(program, MPS_SIMULATOR_TORCH=version)
        assert (result.returncode, result.stdout.split()) == (0, refused.split()), result.stderr


def test_an_emulated_version_must_be_a_version():
    result = run_python("import torch; torch.conv1d(*torch.ones(2, 1, 1, 1, device='mps'))", MPS_SIMULATOR_TORCH="new")
    assert "MPS_SIMULATOR_TORCH must be X.Y, not 'new'" in result.stderr
