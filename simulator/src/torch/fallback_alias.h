// `mps` tensors seen as CPU tensors over the same memory, for the time of one operator.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>
#include <c10/util/SmallVector.h>

namespace mps_simulator {

// Usage: to_cpu() every argument, run the operator on the CPU, write_back(), to_mps() every result. Nothing is copied.
class Aliases {
 public:
  // `operation` is the operator's name in error messages; it must outlive this object.
  explicit Aliases(const std::string& operation) : operation_(operation) {}

  // The CPU tensor with the memory, sizes, strides, offset, conj, neg and wrapped-number flags of `mps`; the same one
  // each time it is asked for. NotImplementedError when the tensor is not strided or has no memory (a ZeroTensor).
  at::Tensor to_cpu(const at::Tensor& mps);

  // An argument on the CPU: where the result is this tensor, it stays this tensor.
  void keep(const at::Tensor& cpu);

  // Gives the `mps` tensors the sizes, strides and memory that the operator gave to their aliases (out= resizing).
  void write_back();

  // The `mps` tensor for a result: the argument that it is, a view of an argument's storage, or a tensor around new
  // memory. TypeError for float64 and complex128, which mps does not have.
  at::Tensor to_mps(const at::Tensor& cpu);

 private:
  struct AliasedTensor {
    at::Tensor mps;
    at::Tensor cpu;
  };
  struct AliasedStorage {
    c10::Storage mps;
    c10::Storage cpu;
    const void* contents;
    c10::DispatchKeySet keys;  // of a tensor on it, for views
  };

  const AliasedStorage& alias_storage(const at::Tensor& mps);
  const AliasedStorage* find_cpu_storage(const c10::StorageImpl* cpu) const;
  // Puts new CPU memory behind the `mps` storage of a result, once per storage.
  const AliasedStorage& wrap_storage(const at::Tensor& cpu);

  const std::string& operation_;
  c10::SmallVector<AliasedTensor, 6> tensors_;
  c10::SmallVector<AliasedStorage, 6> storages_;
};

}  // namespace mps_simulator
