#include "torch/fallback_alias.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/TensorImpl.h>

#include "torch/storage.h"

namespace mps_simulator {
namespace {

constexpr c10::DispatchKeySet kFlags({c10::DispatchKey::Conjugate, c10::DispatchKey::Negative,
                                      c10::DispatchKey::ZeroTensor});

void release_storage(void* storage) { c10::raw::intrusive_ptr::decref(static_cast<c10::StorageImpl*>(storage)); }

// A data pointer to memory that `owner` keeps alive.
c10::DataPtr borrow(void* data, c10::StorageImpl* owner, c10::Device device) {
  c10::raw::intrusive_ptr::incref(owner);
  return {data, owner, &release_storage, device};
}

void copy_geometry(const c10::TensorImpl& from, c10::TensorImpl& to) {
  to.set_sizes_and_strides(from.sizes(), from.strides(), from.storage_offset());
}

bool same_geometry(const c10::TensorImpl& a, const c10::TensorImpl& b) {
  return a.storage_offset() == b.storage_offset() && a.sizes() == b.sizes() && a.strides() == b.strides();
}

void copy_flags(const at::Tensor& from, const at::Tensor& to) {
  to._set_conj(from.is_conj());
  to._set_neg(from.is_neg());
}

}  // namespace

const Aliases::AliasedStorage& Aliases::alias_storage(const at::Tensor& mps) {
  auto* const storage = mps.storage().unsafeGetStorageImpl();
  for (const auto& known : storages_) {
    if (known.mps.unsafeGetStorageImpl() == storage) {
      return known;
    }
  }
  void* const memory = contents(*storage);
  // The CPU's allocator, so that the operator may resize it.
  c10::Storage cpu(c10::Storage::use_byte_size_t(), storage->nbytes(), borrow(memory, storage, at::kCPU),
                   c10::GetCPUAllocator(), /*resizable=*/true);
  return storages_.emplace_back(AliasedStorage{mps.storage(), std::move(cpu), memory, mps.key_set() - kFlags});
}

at::Tensor Aliases::to_cpu(const at::Tensor& mps) {
  for (const auto& known : tensors_) {
    if (known.mps.is_same(mps)) {
      return known.cpu;
    }
  }
  TORCH_CHECK_NOT_IMPLEMENTED(mps.key_set().has(c10::DispatchKey::MPS), operation_, " has no kernel for a ",
                              mps.layout(), " tensor on the mps device");
  const auto& storage = alias_storage(mps);
  TORCH_CHECK_NOT_IMPLEMENTED(storage.contents != nullptr || mps.numel() == 0, operation_,
                              " was given a tensor without memory on the mps device");
  auto cpu = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(storage.cpu), c10::DispatchKey::CPU, mps.dtype());
  auto* const impl = cpu.unsafeGetTensorImpl();
  copy_geometry(*mps.unsafeGetTensorImpl(), *impl);
  if (mps.unsafeGetTensorImpl()->is_wrapped_number()) {
    impl->set_wrapped_number(true);
  }
  copy_flags(mps, cpu);
  tensors_.push_back({mps, cpu});
  return cpu;
}

void Aliases::keep(const at::Tensor& cpu) { tensors_.push_back({cpu, cpu}); }

void Aliases::write_back() {
  for (auto& storage : storages_) {
    auto* const mps = storage.mps.unsafeGetStorageImpl();
    auto* const cpu = storage.cpu.unsafeGetStorageImpl();
    if (cpu->data() != storage.contents) {
      mps->set_data_ptr_noswap(wrap(borrow(cpu->mutable_data(), cpu, at::kCPU), cpu->nbytes()));
      storage.contents = cpu->data();
    }
    if (cpu->nbytes() != mps->nbytes()) {
      mps->set_nbytes(cpu->nbytes());
    }
  }
  for (const auto& [mps, cpu] : tensors_) {
    auto* const impl = mps.unsafeGetTensorImpl();
    TORCH_INTERNAL_ASSERT(mps.is_cpu() || find_cpu_storage(cpu.storage().unsafeGetStorageImpl()) != nullptr, operation_,
                          " replaced the storage of an argument");
    if (!same_geometry(*cpu.unsafeGetTensorImpl(), *impl)) {
      copy_geometry(*cpu.unsafeGetTensorImpl(), *impl);
    }
  }
}

const Aliases::AliasedStorage* Aliases::find_cpu_storage(const c10::StorageImpl* cpu) const {
  for (const auto& known : storages_) {
    if (known.cpu.unsafeGetStorageImpl() == cpu) {
      return &known;
    }
  }
  return nullptr;
}

const Aliases::AliasedStorage& Aliases::wrap_storage(const at::Tensor& cpu) {
  auto* const storage = cpu.storage().unsafeGetStorageImpl();
  const size_t nbytes = storage->nbytes();
  c10::Storage mps(c10::Storage::use_byte_size_t(), nbytes,
                   wrap(borrow(storage->mutable_data(), storage, at::kCPU), nbytes),
                   c10::GetAllocator(c10::DeviceType::MPS), /*resizable=*/true);
  return storages_.emplace_back(
      AliasedStorage{std::move(mps), cpu.storage(), storage->data(), c10::DispatchKeySet(c10::DispatchKey::MPS)});
}

at::Tensor Aliases::to_mps(const at::Tensor& cpu) {
  for (const auto& known : tensors_) {
    if (known.cpu.is_same(cpu)) {
      return known.mps;
    }
  }
  TORCH_CHECK_NOT_IMPLEMENTED(cpu.layout() == at::kStrided, operation_, " gives a ", cpu.layout(),
                              " tensor, which the simulated mps device does not have");
  TORCH_CHECK_TYPE(cpu.scalar_type() != at::kDouble,
                   "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64. Please "
                   "use float32 instead.");
  TORCH_CHECK_TYPE(cpu.scalar_type() != at::kComplexDouble,
                   "Trying to convert ComplexDouble to the MPS backend but it does not have support for that dtype.");
  const auto* const known = find_cpu_storage(cpu.storage().unsafeGetStorageImpl());
  at::Tensor mps;
  if (known != nullptr) {
    mps = at::detail::make_tensor<c10::TensorImpl>(c10::TensorImpl::VIEW, c10::Storage(known->mps), known->keys,
                                                   cpu.dtype());
  } else {
    mps = at::detail::make_tensor<c10::TensorImpl>(c10::Storage(wrap_storage(cpu).mps), c10::DispatchKey::MPS,
                                                   cpu.dtype());
  }
  copy_geometry(*cpu.unsafeGetTensorImpl(), *mps.unsafeGetTensorImpl());
  copy_flags(cpu, mps);
  return mps;
}

}  // namespace mps_simulator
