// clang, the headers of a shader, and the cache on disk.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "msl.h"

namespace mps_simulator::msl {

class Toolchain {
 public:
  // Found once: the headers are in `include/metal` of MPS_SIMULATOR_ROOT, or of the folder above the one that this
  // library lies in; clang is MPS_SIMULATOR_CLANG, or clang++-19 or clang++ 19. Throws std::runtime_error.
  // Versions of the language that are the same C++ share one.
  static const Toolchain& instance(unsigned language_version = kDefaultLanguage);
  // The same, but what it compiles counts what it does: instrument.h.
  static const Toolchain& counting(unsigned language_version);

  struct Output {
    bool ok;
    std::string out, error;
  };

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

  // The cached file of this name; made by `make(temporary path)` if there is none, which returns whether to keep it.
  // Empty: not kept. Other processes see nothing or the whole file.
  std::string cached(const std::string& name, const std::function<bool(const std::string&)>& make) const;

 private:
  Toolchain(bool counting, const char* standard);
  Output run(std::vector<std::string> arguments) const;  // of clang
  Output run(const std::string& program, std::vector<std::string> arguments) const;
  Output run_on(std::vector<std::string> arguments, const std::string& text) const;
  std::vector<std::string> flags() const;
  std::vector<std::string> linking(const std::string& path) const;
  std::string prelude() const;
  std::string temporary() const;

  bool counting_;
  const char* standard_;
  std::string clang_, headers_, cache_, fingerprint_;
};

std::string read_file(const std::string& path);
void write_file(const std::string& path, const std::string& text);

}  // namespace mps_simulator::msl
