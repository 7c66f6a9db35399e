// Views, resizing and set_: sizes and strides as everywhere in torch, but memory that only our allocator may grow.
#include <ATen/core/Tensor.h>
#include <ATen/mps/MPSDevice.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <algorithm>

#include "torch/storage.h"

namespace mps_simulator {

void resize_storage(c10::StorageImpl& storage, size_t nbytes) {
  TORCH_CHECK(storage.resizable(), "Trying to resize storage that is not resizable");
  synchronize_for_host();
  const size_t kept = std::min(nbytes, storage.nbytes());
  auto* allocator = at::mps::GetMPSAllocator();
  c10::DataPtr previous = storage.set_data_ptr(allocator->allocate(nbytes));
  storage.set_nbytes(nbytes);
  if (kept > 0) allocator->copy_data(storage.mutable_data(), previous.get(), kept);
}

namespace {

c10::intrusive_ptr<c10::StorageImpl> empty_storage() {
  auto* allocator = at::mps::GetMPSAllocator();
  return c10::make_intrusive<c10::StorageImpl>(c10::StorageImpl::use_byte_size_t(), 0, allocator->allocate(0),
                                               allocator,
                                               /*resizable=*/true);
}

void set_sizes(const at::Tensor& self, at::IntArrayRef size, at::OptionalIntArrayRef stride) {
  c10::TensorImpl* impl = self.unsafeGetTensorImpl();
  if (self.sizes() == size && (!stride || self.strides() == *stride)) return;
  const size_t itemsize = self.itemsize(), offset = self.storage_offset();
  size_t nbytes;
  if (stride) {
    impl->set_sizes_and_strides(size, *stride);
    nbytes = at::detail::computeStorageNbytes(size, *stride, itemsize, offset);
  } else {
    impl->set_sizes_contiguous(size);
    nbytes = at::detail::computeStorageNbytesContiguous(size, itemsize, offset);
  }
  if (impl->numel() > 0 && nbytes > self.storage().nbytes()) {
    resize_storage(*self.storage().unsafeGetStorageImpl(), nbytes);
  }
}

const at::Tensor& resize_(const at::Tensor& self, at::IntArrayRef size,
                          std::optional<c10::MemoryFormat> memory_format) {
  set_sizes(self, size, std::nullopt);
  if (memory_format) {
    TORCH_CHECK(*memory_format != c10::MemoryFormat::Preserve, "Unsupported memory format", *memory_format);
    self.unsafeGetTensorImpl()->empty_tensor_restride(*memory_format);
  }
  return self;
}

at::Tensor& set_storage_offset(at::Tensor& self, at::Storage source, int64_t storage_offset, at::IntArrayRef size,
                               at::IntArrayRef stride) {
  at::native::checkSetStorage(self, std::move(source), storage_offset, size, stride);
  self.unsafeGetTensorImpl()->set_storage_offset(storage_offset);
  set_sizes(self, size, stride.data() ? at::OptionalIntArrayRef(stride) : std::nullopt);
  return self;
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source) { return at::native::set_(self, std::move(source)); }

at::Tensor& set_tensor(at::Tensor& self, const at::Tensor& source) { return at::native::set_tensor_(self, source); }

at::Tensor& set_empty(at::Tensor& self) {
  self.unsafeGetTensorImpl()->set_storage_keep_dtype(empty_storage());
  self.unsafeGetTensorImpl()->set_storage_offset(0);
  set_sizes(self, {0}, std::nullopt);
  return self;
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, MPS, m) {
  m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("resize_", TORCH_FN(resize_));
  m.impl("set_.source_Storage", TORCH_FN(set_storage));
  m.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage_offset));
  m.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  m.impl("set_", TORCH_FN(set_empty));
}

}  // namespace mps_simulator
