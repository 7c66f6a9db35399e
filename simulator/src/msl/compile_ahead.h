// Pipelines of a library are often made one after the other, and each waits for its compiler. Those that will be next
// are compiled meanwhile.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <set>

#include "pipeline.h"

namespace mps_simulator::msl {

class CompileAhead : public std::enable_shared_from_this<CompileAhead> {
 public:
  explicit CompileAhead(std::shared_ptr<const Program> program) : program_(std::move(program)) {}

  // This kernel is about to be compiled. The first to be asked for may be the only one; then with each the kernels
  // behind it come to be compiled, one more at a time as more are asked for, on as many cores as are left. Not those
  // that function constants change: nobody knows to what.
  void asked_for(const Kernel& kernel);

 private:
  const std::shared_ptr<const Program> program_;
  std::mutex mutex_;
  std::set<unsigned> begun_, running_;  // ids
  size_t asked_ = 0;
};

}  // namespace mps_simulator::msl
