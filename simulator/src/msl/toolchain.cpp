#include "toolchain.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <sstream>
#include <stdexcept>

#include "checks.h"
#include "compile_cache.h"
#include "hash.h"
#include "instrument.h"

namespace mps_simulator::msl {
namespace fs = std::filesystem;

namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

// The file that this code was loaded from.
fs::path this_library() {
  Dl_info info;
  if (!dladdr(reinterpret_cast<void*>(&this_library), &info)) throw std::runtime_error("dladdr: no path");
  return fs::canonical(info.dli_fname);
}

std::string find_root() {
  const std::string root = environment("MPS_SIMULATOR_ROOT");
  return root.empty() ? this_library().parent_path().parent_path().string() : root;
}

std::string identity(const fs::path& file) {
  return file.string() + " " + std::to_string(fs::file_size(file)) + " " +
         std::to_string(fs::last_write_time(file).time_since_epoch().count()) + "\n";
}

std::string not_installed(const std::string& packages) {
  return "Metal shaders are compiled here by clang 19, of which these Debian packages are missing. As root:\n\n"
         "    apt-get install --no-install-recommends " +
         packages + "\n";
}

std::string find_clang() {
  if (std::string clang = environment("MPS_SIMULATOR_CLANG"); !clang.empty()) return clang;
  std::vector<std::string> folders;
  std::istringstream path(environment("PATH"));
  for (std::string folder; std::getline(path, folder, ':');) folders.push_back(folder);
  folders.push_back("/usr/bin");
  for (const std::string& folder : folders) {
    const std::string clang = folder + "/clang++-19";
    if (access(clang.c_str(), X_OK) == 0) return clang;
  }
  const std::string clang = "/usr/lib/llvm-19/bin/clang++";
  if (access(clang.c_str(), X_OK) == 0) return clang;
  throw std::runtime_error(not_installed("clang-19 lld-19 llvm-19 libclang-rt-19-dev"));
}

// Debian has clang's linker, its libraries and its tools in packages of their own.
void check_companions(const fs::path& clang) {
  const fs::path llvm = fs::canonical(clang).parent_path().parent_path();
  if (llvm.filename() != "llvm-19") return;
  std::string missing;
  for (const auto& [package, file] : {std::pair{"lld-19", "bin/ld.lld"},
                                      {"llvm-19", "bin/llvm-symbolizer"},
                                      {"libclang-rt-19-dev", "lib/clang/19/lib"}}) {
    if (!fs::exists(llvm / file)) missing += std::string(missing.empty() ? "" : " ") + package;
  }
  if (!missing.empty()) throw std::runtime_error(not_installed(missing));
}

// What -march=native depends on.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string found;
  for (std::string line; std::getline(file, line) && !line.empty();) {
    for (const char* key : {"vendor_id", "cpu family", "model", "stepping", "flags", "CPU part", "Features"}) {
      if (line.rfind(key, 0) == 0) found += line + "\n";
    }
  }
  return found;
}

}  // namespace

// Never destroyed: a kernel may be compiled ahead when the process exits.
const Toolchain& Toolchain::instance(unsigned language_version) {
  if (language_version >= 400) {
    static const Toolchain* const toolchain = new Toolchain(false, "-std=c++17");
    return *toolchain;
  }
  static const Toolchain* const toolchain = new Toolchain(false, "-std=c++14");
  return *toolchain;
}

const Toolchain& Toolchain::counting(unsigned language_version) {
  if (language_version >= 400) {
    static const Toolchain* const toolchain = new Toolchain(true, "-std=c++17");
    return *toolchain;
  }
  static const Toolchain* const toolchain = new Toolchain(true, "-std=c++14");
  return *toolchain;
}

Toolchain::Toolchain(bool counting, const char* standard)
    : counting_(counting),
      standard_(standard),
      clang_(fs::absolute(find_clang())),
      headers_(find_root() + "/include/metal"),
      cache_(find_cache()) {
  check_companions(clang_);
  if (!fs::is_directory(headers_)) {
    throw std::runtime_error("the headers of Metal shaders are missing: " + headers_ + " (set MPS_SIMULATOR_ROOT)");
  }
  std::ostringstream all;
  all << identity(fs::canonical(clang_)) << identity(this_library()) << processor() << headers_;
  for (const std::string& flag : flags()) all << flag << "\n";
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(headers_)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) all << file << "\n" << read_file(file);
  fingerprint_ = sha256(all.str());
  cache_ += "/" + fingerprint_.substr(0, 16);
  make_private(cache_);
}

// The same in all passes, as one precompiled header serves them.
//
// Floating point is IEEE's, whatever MTLCompileOptions says of fast math: the strict reading, as Metal may do it. The
// one freedom used is Metal's default of contracting a * b + c within an expression.
std::vector<std::string> Toolchain::flags() const {
  std::vector<std::string> f = {
      "-x",
      "c++",
      standard_,
      "-nostdinc",
      "-nostdinc++",
      "-I" + headers_,
      "-fdeclspec",
      "-O3",
      "-fPIC",
      "-ffp-contract=on",
      "-fno-math-errno",
      "-fno-exceptions",
      "-fno-rtti",
      "-fno-strict-aliasing",
      "-fno-stack-protector",
      "-fno-asynchronous-unwind-tables",
      "-fomit-frame-pointer",
      "-fcf-protection=none",
      "-fvisibility=hidden",
      "-fno-color-diagnostics",
      "-fno-caret-diagnostics",
      "-ferror-limit=50",
      "-ftemplate-backtrace-limit=0",
      "-Wno-everything",
      // Warnings that are errors unless somebody says otherwise, as the line above does.
      "-Werror=c++11-narrowing",
      "-Werror=return-mismatch",
      "-Werror=vla-cxx-extension",
      "-Werror=zero-length-array",
      "-Werror=deprecated-register",
      // Beyond what a GPU gives a thread, and within the stack that a thread has here.
      "-Wframe-larger-than=65536",
      "-Werror=frame-larger-than",
  };
#if defined(__x86_64__)
  // The conversions to bfloat that some processors have make denormals 0.
  f.insert(f.end(), {"-march=native", "-mno-avx512bf16", "-mno-avxneconvert", "-mno-red-zone"});
#endif
  // The calls that include/metal/_msl/checks.h answers. After the optimiser, so that only what runs is checked.
  if (counting_) {
    // One instruction for each that a lane executes, and no arithmetic wider than the shader's. By their names the
    // parts of a vector's copy are known.
    f.insert(f.end(), {"-DMSL_COUNTERS", "-fno-vectorize", "-fno-slp-vectorize", "-fno-discard-value-names", "-mllvm",
                       "-indvars-widen-indvars=false"});
  } else if (checks_enabled()) {
    f.insert(f.end(),
             {"-DMSL_CHECKS", "-gline-tables-only", "-fsanitize=kernel-address,alignment",
              "-fno-sanitize-recover=alignment", "-fno-sanitize-link-runtime", "-fno-delete-null-pointer-checks"});
    for (const char* internal :
         {"-asan-instrumentation-with-call-threshold=0", "-asan-stack=0", "-asan-globals=0", "-asan-opt-same-temp=0",
          "-asan-kernel-mem-intrinsic-prefix=1", "-enable-tail-merge=0"}) {
      f.insert(f.end(), {"-mllvm", internal});
    }
  }
  // -fsycl-is-device for its address spaces (keywords.h); it asks for a second target when it mangles __bf16.
  for (const char* internal : {"-fsycl-is-device", "-ffloat16-excess-precision=none",
                               "-fbfloat16-excess-precision=none", "-fno-pch-timestamp", "-aux-triple",
#if defined(__x86_64__)
                               "x86_64-pc-linux-gnu"
#else
                               "aarch64-unknown-linux-gnu"
#endif
       }) {
    f.insert(f.end(), {"-Xclang", internal});
  }
  return f;
}

std::string Toolchain::line_of(const std::string& object, uint64_t offset) const {
  const std::string symbolizer = fs::canonical(clang_).parent_path() / "llvm-symbolizer";
  if (access(symbolizer.c_str(), X_OK) != 0) return "";
  std::ostringstream address;
  address << "0x" << std::hex << offset;
  std::istringstream frames(
      msl::run({symbolizer, "--obj=" + object, "--functions=none", "--inlines", address.str()}, "", cache_).out);
  for (std::string frame; std::getline(frames, frame);) {  // from the innermost function that was inlined outwards
    const size_t at = frame.find("program_source:");
    if (at != std::string::npos) return frame.substr(at, frame.rfind(':') - at);
  }
  return "";
}

std::string Toolchain::cached(const std::string& name, const std::function<void(const std::string&)>& make) const {
  return msl::cached(cache_, name, make);
}

Output Toolchain::run(std::vector<std::string> arguments, const std::string& input, const std::string& scratch) const {
  arguments.insert(arguments.begin(), clang_);
  return msl::run(arguments, input, cache_, scratch);
}

std::string Toolchain::prelude() const {
  return cached("prelude.pch", [&](const std::string& path) {
    std::vector<std::string> arguments = flags();
    arguments[1] = "c++-header";
    arguments.insert(arguments.end(), {"-o", path, headers_ + "/_msl/prelude.h"});
    const Output output = run(arguments, "", fs::path(path).parent_path());
    if (!output.ok) throw std::runtime_error("the headers of Metal shaders do not compile:\n" + output.error);
  });
}

Output Toolchain::preprocess(const std::string& source, const std::vector<std::string>& macros,
                             unsigned language_version) const {
  std::vector<std::string> arguments = {"-E",
                                        "-x",
                                        "c++",
                                        standard_,
                                        "-undef",
                                        "-nostdinc",
                                        "-nostdinc++",
                                        "-I" + headers_,
                                        "-DMSL_READER",
                                        "-fno-color-diagnostics",
                                        "-fno-caret-diagnostics",
                                        "-w",
                                        "-D__METAL__=1",
                                        "-D__AIR64__=1",
                                        "-Dassert(condition)=((void)0)",
                                        "-D__METAL_MACOS__=1",
                                        "-D__METAL_VERSION__=" + std::to_string(language_version),
                                        "-D__cpp_variable_templates=201304L",
                                        "-D__clang__=1"};
  if (language_version >= 310) arguments.push_back("-D__HAVE_BFLOAT__=1");
  for (const std::string& m : macros) arguments.push_back("-D" + m);
  arguments.push_back("-");
  // Lines are counted as they stand in the source, whatever it says of them.
  static const std::regex line_directive(R"((^|\n)[ \t]*#[ \t]*line\b[^\n]*)");
  return run(arguments, "#line 1 \"program_source\"\n" + std::regex_replace(source, line_directive, "$1") + "\n");
}

Output Toolchain::parse(const std::string& text) const {
  std::vector<std::string> arguments = flags();
  arguments.insert(arguments.end(), {"-include-pch", prelude(), "-fsyntax-only", "-Xclang", "-ast-dump", "-"});
  return run(arguments, text);
}

Output Toolchain::compile(const std::string& text, const std::string& path) const {
  const std::string scratch = fs::path(path).parent_path();
  std::vector<std::string> arguments = flags();
  arguments.insert(arguments.end(), {"-include-pch", prelude()});
  const auto add = [&arguments](const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
  };
  if (!counting_) {
    add(linking(path));
    add({"-"});
    return run(arguments, text, scratch);
  }
  add({"-S", "-emit-llvm", "-o", "-", "-"});
  const Output code = run(arguments, text);
  if (!code.ok) return code;
  arguments = {"-x", "ir", "-O2", "-Xclang", "-disable-llvm-passes", "-fPIC"};
  add(linking(path));
  add({"-"});
  return run(arguments, instrument(code.out), scratch);
}

std::vector<std::string> Toolchain::linking(const std::string& path) const {
  // compiler-rt has the conversions to bfloat that Debian 12's libgcc lacks.
  return {"-shared",
          "-fuse-ld=lld",
          "-nostartfiles",
          "-nostdlib++",
          "--rtlib=compiler-rt",
          "--unwindlib=none",
          "-Wl,-z,defs",
          "-o",
          path};
}

}  // namespace mps_simulator::msl
