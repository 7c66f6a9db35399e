"""Installs the device: loads the library and sets, from Python, what a Linux wheel of torch is built without."""

from __future__ import annotations

import platform
from typing import Any

import torch

from mps_simulator._exit import wait_at_exit


def install() -> None:
    """Must run before anybody asks whether mps is available: torch caches the first answer for ever."""
    if torch._C._has_mps:
        return
    from mps_simulator import _C, _autocast

    torch._C._has_mps = True
    torch._C._mps_get_name = _C.device_name
    torch._C._mps_get_core_count = _C.core_count
    torch._C._mps_compileShader = _C.compile_shader
    torch._C._mps_ShaderLibrary = _C.ShaderLibrary
    torch._C._mps_MetalKernel = _C.MetalKernel
    torch._C._mps_host_alias_storage = _C.host_alias_storage
    torch._C._mps_isCaptureEnabled = lambda: False
    torch._C._mps_isCapturing = lambda: False
    torch._C._mps_startCapture = _no_capture
    torch._C._mps_stopCapture = _no_capture
    torch._C._mps_loadMetalllib = _no_compiled_library
    torch._C._mps_loadMetallibFromPath = _no_compiled_library
    # By this alone programs (Lightning's accelerator) tell Apple silicon. machine(), system() and uname() say what
    # compiled code can run here, and stay true.
    platform.processor = lambda: "arm"
    _teach_storages(_C)
    _autocast.install(_C.torch_version())
    wait_at_exit()


def _no_capture(*_: str) -> None:
    raise RuntimeError("Metal capture is not enabled: there is no Xcode to show one")


def _no_compiled_library(_: object) -> None:
    raise NotImplementedError("A compiled .metallib cannot run here: compile the shader's source")


def _teach_storages(_C: Any) -> None:
    """`torch.UntypedStorage(n, device="mps")` and its `resize_`, which torch.save and torch.load need."""
    plain_new = torch.UntypedStorage.__new__
    plain_resize = torch.UntypedStorage.resize_

    def new(cls: type, *args: Any, **kwargs: Any) -> torch.UntypedStorage:
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "mps":
            return plain_new(cls, *args, **kwargs)
        content = args[0] if args else 0
        if isinstance(content, int):
            return torch.empty(content, dtype=torch.uint8, device="mps").untyped_storage()
        return torch.tensor(content, dtype=torch.uint8, device="mps").untyped_storage()

    def resize_(self: torch.UntypedStorage, size: int) -> torch.UntypedStorage:
        if self.device.type != "mps":
            return plain_resize(self, size)
        _C.resize_storage(self, size)
        return self

    torch.UntypedStorage.__new__ = staticmethod(new)  # type: ignore[method-assign, assignment]
    torch.UntypedStorage.resize_ = resize_  # type: ignore[method-assign]
