// The `mps` generator: a CPU generator inside, because the operators that draw run on the CPU.
#include "torch/generator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <c10/core/GeneratorImpl.h>

#include "torch/storage.h"

namespace mps_simulator {
namespace {

// A real mps draws other numbers than the CPU from the same seed, and a program that counts on equal ones must not
// pass here either.
constexpr uint64_t kSeedTwist = 0x6d7073;

class Generator final : public c10::GeneratorImpl {
 public:
  explicit Generator(at::Generator cpu)
      : GeneratorImpl(c10::Device(c10::kMPS, 0), c10::DispatchKeySet(c10::DispatchKey::MPS)), cpu_(std::move(cpu)) {}

  const at::Generator& cpu() const { return cpu_; }

  void set_current_seed(uint64_t seed) override { cpu_.set_current_seed(seed ^ kSeedTwist); }
  uint64_t current_seed() const override { return cpu_.current_seed() ^ kSeedTwist; }
  uint64_t seed() override { return cpu_.seed() ^ kSeedTwist; }
  void set_offset(uint64_t offset) override { cpu_.set_offset(offset); }
  uint64_t get_offset() const override { return cpu_.get_offset(); }
  void set_state(const c10::TensorImpl& state) override { impl().set_state(state); }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override { return impl().get_state(); }

 private:
  c10::GeneratorImpl& impl() const { return *cpu_.unsafeGetGeneratorImpl(); }

  Generator* clone_impl() const override {
    std::lock_guard<std::mutex> lock(cpu_.mutex());
    return new Generator(cpu_.clone());
  }

  mutable at::Generator cpu_;
};

}  // namespace

at::Generator make_generator() {
  return at::make_generator<Generator>(at::detail::createCPUGenerator(c10::default_rng_seed_val ^ kSeedTwist));
}

const at::Generator& default_generator() {
  static const auto* generator = [] {
    auto* made = new at::Generator(make_generator());
    made->seed();
    return made;
  }();
  return *generator;
}

at::Generator cpu_generator(const std::optional<at::Generator>& generator) {
  const at::Generator& given = generator && generator->defined() ? *generator : default_generator();
  TORCH_CHECK(given.device().is_mps(), "Expected a 'mps' device type for generator but found '", given.device().type(),
              "'");
  return static_cast<const Generator*>(given.unsafeGetGeneratorImpl())->cpu();
}

}  // namespace mps_simulator
