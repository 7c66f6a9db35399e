// clang, the headers of a shader, and the cache on disk.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "msl.h"
#include "process.h"

namespace mps_simulator::msl {

class Toolchain {
 public:
  // Found once: the headers are in `include/metal` of MPS_SIMULATOR_ROOT, or of the folder above the one that this
  // library lies in; clang is MPS_SIMULATOR_CLANG, or clang++-19 or clang++ 19. Throws std::runtime_error.
  // Versions of the language that are the same C++ share one.
  static const Toolchain& instance(unsigned language_version = kDefaultLanguage);
  // The same, but what it compiles counts what it does: instrument.h.
  static const Toolchain& counting(unsigned language_version);

  // `clang -E` with MSL's macros and nothing of this machine's.
  Output preprocess(const std::string& source, const std::vector<std::string>& macros, unsigned language_version) const;
  // -fsyntax-only with a dump of the syntax tree in `out`.
  Output parse(const std::string& text) const;
  // To the shared object at `path`.
  Output compile(const std::string& text, const std::string& path) const;

  // "program_source:LINE": the line of a shader that the machine code at `offset` of a shared object comes from; empty
  // if it is not known.
  std::string line_of(const std::string& object, uint64_t offset) const;

  const std::string& headers() const { return headers_; }

  // Everything that a result depends on beside the text: the compiler, the flags, the headers, the processor.
  const std::string& fingerprint() const { return fingerprint_; }

  // As msl::cached(), of what this toolchain made.
  std::string cached(const std::string& name, const std::function<void(const std::string&)>& make) const;

 private:
  Toolchain(bool counting, const char* standard);
  Output run(std::vector<std::string> arguments, const std::string& input, const std::string& scratch = "") const;
  std::vector<std::string> flags() const;
  std::vector<std::string> linking(const std::string& path) const;
  std::string prelude() const;

  bool counting_;
  const char* standard_;
  std::string clang_, headers_, cache_, fingerprint_;
};

}  // namespace mps_simulator::msl
