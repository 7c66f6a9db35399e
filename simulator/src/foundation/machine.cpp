#include "machine.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace mps_simulator {
namespace {

std::string environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return value && *value ? value : otherwise;
}

// A whole number, or 0 for any other text.
unsigned number(const std::string& text) {
  const bool digits = !text.empty() && text.size() < 7 && text.find_first_not_of("0123456789") == std::string::npos;
  return digits ? std::stoul(text) : 0;
}

[[noreturn]] void refuse(const std::string& name, const std::string& rule, const std::string& text) {
  throw std::runtime_error(name + " must be " + rule + ", and is " + text);
}

}  // namespace

const Gpu& gpu() {
  static const Gpu found = [] {
    const std::string text = environment("MPS_SIMULATOR_GPU_FAMILY", "7");
    for (const Gpu& gpu : {Gpu{5, "Apple Paravirtual device", 0, false}, Gpu{7, "Apple M1", 8, true},
                           Gpu{8, "Apple M2", 10, true}, Gpu{9, "Apple M3", 10, true}}) {
      if (gpu.family == number(text)) return gpu;
    }
    refuse("MPS_SIMULATOR_GPU_FAMILY", "5 (a virtual machine), 7, 8 or 9", text);
  }();
  return found;
}

const MacOS& macos() {
  static const MacOS version = [] {
    const std::string text = environment("MPS_SIMULATOR_MACOS", "15.5");
    const size_t dot = text.find('.');
    const std::string minor = dot == std::string::npos ? "0" : text.substr(dot + 1);
    const MacOS version{number(text.substr(0, dot)), number(minor)};
    if (version.major < 11 || (version.minor == 0 && minor != "0")) {
      refuse("MPS_SIMULATOR_MACOS", "X.Y, from 11.0 on", text);
    }
    return version;
  }();
  return version;
}

bool macos_is_at_least(unsigned major, unsigned minor) {
  return macos().major > major || (macos().major == major && macos().minor >= minor);
}

unsigned unstated_max_threads() {
  static const unsigned threads = [] {
    const std::string text = environment("MPS_SIMULATOR_MAX_THREADS", "1024");
    const unsigned n = number(text);
    if (n == 0 || n > 1024 || n % 32) refuse("MPS_SIMULATOR_MAX_THREADS", "a multiple of 32 up to 1024", text);
    return n;
  }();
  return threads;
}

}  // namespace mps_simulator
