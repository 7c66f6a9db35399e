// The host's side of an `mps` storage, for code that runs operators on the CPU.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/core/StorageImpl.h>

#include <cstddef>

namespace mps_simulator {

// The CPU address of byte 0 of an `mps` storage; null when it has no memory. Valid while the storage lives and is not
// resized. Call synchronize_for_host() before the memory is touched.
std::byte* contents(const c10::StorageImpl& storage);

// The CPU address of the first element of an `mps` tensor: contents of its storage plus the storage offset.
std::byte* contents(const at::TensorBase& tensor);

// The host has written the elements of an `mps` tensor. For the checks: simulator/docs/checks.md.
void mark_written(const at::Tensor& tensor);

// An `mps` data pointer around memory that already lives on the CPU: no copy is made, and `cpu` is released when the
// last reference to the Metal buffer is gone (a command buffer in flight may hold one longer than the storage does).
// A null pointer or nbytes == 0 gives a null `mps` pointer.
c10::DataPtr wrap(c10::DataPtr cpu, size_t nbytes);

// Gives a resizable `mps` storage another size; as many bytes as fit are kept.
void resize_storage(c10::StorageImpl& storage, size_t nbytes);

// A CPU tensor over the memory of an `mps` tensor: same sizes, strides, dtype, conjugate and negative bits. It does not
// keep the memory alive, and is for use after synchronize_for_host().
at::Tensor host_view(const at::Tensor& tensor);

// Commits and waits for what every stream has been given so far, so that the CPU may read and write any storage.
// Cheap when nothing is pending. Raises the error of a command buffer that failed (c10::Error, RuntimeError in Python).
void synchronize_for_host();

// The CPU generator that an `mps` generator holds, and that of the default generator for an undefined one.
at::Generator cpu_generator(const std::optional<at::Generator>& generator);

}  // namespace mps_simulator
