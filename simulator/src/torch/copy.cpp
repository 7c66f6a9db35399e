// Copies between `mps` and the CPU, and within `mps`: the device's work is finished, then the host copies.
#include <ATen/core/Tensor.h>
#include <ATen/ops/_local_scalar_dense.h>
#include <ATen/ops/from_blob.h>
#include <torch/library.h>

#include "torch/storage.h"

namespace mps_simulator {

at::Tensor host_view(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.numel() == 0 || tensor.storage().data() != nullptr,
              "Placeholder storage has not been allocated on MPS device!");
  at::Tensor view = at::from_blob(contents(tensor), tensor.sizes(), tensor.strides(),
                                  at::TensorOptions().dtype(tensor.dtype()).device(c10::kCPU));
  view._set_conj(tensor.is_conj());
  view._set_neg(tensor.is_neg());
  return view;
}

namespace {

at::Tensor on_host(const at::Tensor& tensor) { return tensor.is_mps() ? host_view(tensor) : tensor; }

at::Tensor& copy_(at::Tensor& self, const at::Tensor& source, bool /*non_blocking*/) {
  if (self.is_same(source)) return self;
  TORCH_CHECK((self.is_mps() || self.is_cpu()) && (source.is_mps() || source.is_cpu()), "Cannot copy from ",
              source.device(), " to ", self.device());
  TORCH_CHECK_NOT_IMPLEMENTED(self.layout() == c10::kStrided && source.layout() == c10::kStrided,
                              "only strided tensors are supported on MPS");
  synchronize_for_host();
  on_host(self).copy_(on_host(source));
  if (self.is_mps()) mark_written(self);
  return self;
}

at::Tensor copy_from(const at::Tensor& self, const at::Tensor& destination, bool non_blocking) {
  at::Tensor target = destination;
  return copy_(target, self, non_blocking);
}

at::Tensor copy_from_and_resize(const at::Tensor& self, const at::Tensor& destination) {
  destination.resize_(self.sizes());
  return copy_from(self, destination, false);
}

at::Scalar local_scalar_dense(const at::Tensor& self) {
  synchronize_for_host();
  return at::_local_scalar_dense(host_view(self));
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  m.impl("copy_", TORCH_FN(copy_));
  m.impl("_copy_from", TORCH_FN(copy_from));
  m.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
  m.impl("_local_scalar_dense", TORCH_FN(local_scalar_dense));
}

}  // namespace mps_simulator
