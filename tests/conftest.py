"""Fixtures. The tests need a device `mps`: a Mac's own, or the one that `mps-simulator` supplies."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

# Where a kernel states no maximum, Apple's compiler may take so many registers that its pipeline has few threads.
# On the simulator no kernel has more than it states.
os.environ.setdefault("MPS_SIMULATOR_MAX_THREADS", "32")

import pytest
import torch

import mps_conv_transpose3d
from reference import DTYPES

ON_SIMULATOR = importlib.util.find_spec("mps_simulator") is not None

# The tests that only the simulator can run, because they ask what ran on the device or make it another device than it
# is. On a Mac they are skipped; a test that uses one of these fixtures and is not named here is an error everywhere.
SIMULATOR_FIXTURES = {"record", "simulator"}
NEEDS_SIMULATOR = {
    "test_a_kernel_that_is_refused_fails_the_step",
    "test_a_long_pass_shares_no_command_buffer",
    "test_a_package_for_macs",
    "test_a_package_that_does_not_come_in_fails",
    "test_a_package_with_a_bridge_that_this_machine_can_load",
    "test_an_algorithm_for_a_whole_network",
    "test_an_algorithm_that_does_not_exist_is_refused_at_once",
    "test_an_encoder_that_orders_nothing",
    "test_an_exception_of_metals_is_a_runtime_error",
    "test_autocast_backward_stays_on_our_kernels",
    "test_autocast_runs_our_kernel_in_its_dtype",
    "test_autocast_without_the_kernels",
    "test_bench_says_that_a_simulation_is_one",
    "test_bench_takes_each_path",
    "test_bench_without_a_device",
    "test_bits_do_not_depend_on_the_order",
    "test_both_readings_accept_each_header_alone",
    "test_both_readings_accept_the_kernels",
    "test_channel_slice_of_grad_output_is_read_in_place",
    "test_compiled_graph_runs_our_kernel",
    "test_composite_serves_all_of_an_older_torch",
    "test_conv3d_goes_to_native",
    "test_demo_says_when_other_kernels_ran",
    "test_disabled_is_native_for_float32",
    "test_doctor_runs_every_kernel",
    "test_doctor_where_pytorch_lacks_the_operation",
    "test_doctor_without_a_device",
    "test_each_call_of_the_library_is_listed",
    "test_elsewhere_it_can_be_required",
    "test_elsewhere_it_is_installed_and_inert",
    "test_elsewhere_without_a_compiler_it_is_installed_and_inert",
    "test_enabled_runs_where_native_refuses_every_dtype",
    "test_every_algorithm_beside_the_choice",
    "test_every_dispatch_stands_between_barriers",
    "test_explain_needs_no_device",
    "test_frozen_tensors_cost_nothing",
    "test_grouped_slices_are_read_in_place",
    "test_host_time",
    "test_hyper_parameters_beyond_32_bits",
    "test_invalid_backward_raises_before_anything_is_encoded",
    "test_invalid_call_raises_before_anything_is_encoded",
    "test_kernels_are_taken_in_each_version",
    "test_layer_runs_on_our_kernels_alone",
    "test_long_pass_runs_in_slices",
    "test_mac_without_metal",
    "test_macos_13_compiles_metal_3_0",
    "test_member_functions_say_that_they_are_a_threads",
    "test_mixed_precision_runs_on_our_kernels",
    "test_native_serves_half_where_it_computes_it",
    "test_native_serves_what_it_computes",
    "test_neither_kernels_nor_native_run",
    "test_network_trains_on_our_kernels_as_on_the_cpu",
    "test_networks_lack_what_the_documents_say",
    "test_networks_of_torch_2_7_run_with_the_fallback",
    "test_no_metal_means_inert",
    "test_no_mps_device_means_inert_and_silent",
    "test_off_is_what_an_older_pytorch_does_alone",
    "test_old_torch_is_native_when_disabled",
    "test_only_the_first_call_allocates",
    "test_preferred_algorithm_is_what_runs",
    "test_records_of_small_calls",
    "test_residual_encoder_and_an_ensemble_of_folds",
    "test_the_model_ranks_as_the_world_measured",
    "test_the_package_passes_on_the_gpu_of_a_virtual_machine",
    "test_the_page_with_what_torch_2_7_had",
    "test_the_second_reading_refuses_a_mistake",
    "test_the_stride_of_an_axis_of_one_element_does_not_matter",
    "test_the_weight_gradient_sums_the_bias_gradient_too",
    "test_too_large_hyper_parameters",
    "test_traced_model_runs_our_kernel",
    "test_vmap_runs_our_kernel",
    "test_way",
    "test_what_runs_on_depthwise_kernels",
    "test_without_autoload_the_import_does_it",
}


def pytest_configure(config: pytest.Config) -> None:
    if not torch.backends.mps.is_available():
        raise pytest.UsageError("no mps device: run on an Apple-silicon Mac, or install ./simulator (`make setup`)")
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        name = getattr(item, "originalname", item.name)
        needed = SIMULATOR_FIXTURES.intersection(getattr(item, "fixturenames", ()))
        if bool(needed) != (name in NEEDS_SIMULATOR):
            raise pytest.UsageError(f"{name}: its fixtures and conftest.NEEDS_SIMULATOR disagree")
        if needed and not ON_SIMULATOR:
            item.add_marker(pytest.mark.skip(reason="needs mps-simulator"))


@pytest.fixture(autouse=True)
def _switched_on() -> Iterator[None]:
    """Each test begins switched on and leaves it so."""
    mps_conv_transpose3d.enable()
    yield
    mps_conv_transpose3d.enable()


@pytest.fixture(params=DTYPES)
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return DTYPES[request.param]


@dataclass
class Recording:
    """What ran while it was open: Metal kernels, and operators on the CPU ("aten::add.Tensor")."""

    kernels: list[str] = field(default_factory=list)
    operators: list[str] = field(default_factory=list)

    @property
    def ours(self) -> list[str]:
        return [name for name in self.kernels if name.startswith("conv_transpose3d_")]

    @property
    def native_convolutions(self) -> list[str]:
        return [name for name in self.operators if "convolution" in name]

    @property
    def copies(self) -> list[str]:
        """Operators that move or duplicate data."""
        return [name for name in self.operators if any(word in name for word in ("copy", "clone", "contiguous", "cat"))]

    def assert_only(self, *operations: str) -> None:
        """All kernels that ran are ours, of exactly these operations: "forward", "input_grad" and so on."""
        assert self.ours == self.kernels, f"other kernels ran: {set(self.kernels) - set(self.ours)}"
        assert not self.native_convolutions
        pattern = re.compile("conv_transpose3d_(forward|input_grad|weight_grad|bias_grad)_")
        ran = {match[1] for match in map(pattern.match, self.ours) if match}
        if any("_weight_grad_sum_" in name for name in self.ours):
            ran |= {"bias_grad"} & set(operations)  # the last step of the weight's gradient may sum the bias's, too
        assert ran == set(operations)


@pytest.fixture
def record() -> Callable[[], contextlib.AbstractContextManager[Recording]]:
    """`with record() as recording:` the one place where the product's tests touch the simulator."""
    import mps_simulator

    @contextlib.contextmanager
    def recording() -> Iterator[Recording]:
        result = Recording()
        with mps_simulator.record() as dispatches:
            yield result
        result.kernels += [dispatch.kernel for dispatch in dispatches]
        result.operators += dispatches.operators

    return recording


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the installed package, to be damaged; PYTHONPATH=package.parent makes it the one that is imported."""
    installed = Path(mps_conv_transpose3d.__file__).parent
    return Path(shutil.copytree(installed, tmp_path / installed.name, ignore=shutil.ignore_patterns("__pycache__")))


def bridge_of(package: Path) -> Path:
    """The one bridge of a package that was built here."""
    (library,) = (package / "_bridge").glob("torch_*.so")
    return library


@pytest.fixture
def simulator() -> None:
    """For tests that make the simulated device another one, through the environment of a process of their own."""


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in a Python of its own, in a changed environment: `run_python("print(1)", NAME="value")`."""

    def run(program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **environment}
        return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=900)

    return run
