#include "toolchain.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "checks.h"
#include "compile_cache.h"
#include "hash.h"
#include "instrument.h"

extern char** environ;

namespace mps_simulator::msl {
namespace fs = std::filesystem;

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_file(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

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
  throw std::runtime_error(
      "clang++-19, which compiles Metal shaders here, is not installed (apt-get install clang-19)");
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

const Toolchain& Toolchain::instance(unsigned language_version) {
  if (language_version >= 400) {
    static const Toolchain toolchain(false, "-std=c++17");
    return toolchain;
  }
  static const Toolchain toolchain(false, "-std=c++14");
  return toolchain;
}

const Toolchain& Toolchain::counting(unsigned language_version) {
  if (language_version >= 400) {
    static const Toolchain toolchain(true, "-std=c++17");
    return toolchain;
  }
  static const Toolchain toolchain(true, "-std=c++14");
  return toolchain;
}

Toolchain::Toolchain(bool counting, const char* standard)
    : counting_(counting),
      standard_(standard),
      clang_(find_clang()),
      headers_(find_root() + "/include/metal"),
      cache_(find_cache()) {
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
  f.insert(f.end(), {"-march=native", "-mno-red-zone"});
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
  std::istringstream frames(run(symbolizer, {"--obj=" + object, "--functions=none", "--inlines", address.str()}).out);
  for (std::string frame; std::getline(frames, frame);) {  // from the innermost function that was inlined outwards
    const size_t at = frame.find("program_source:");
    if (at != std::string::npos) return frame.substr(at, frame.rfind(':') - at);
  }
  return "";
}

std::string Toolchain::temporary() const {
  static std::atomic<unsigned> counter{0};
  return cache_ + "/tmp-" + std::to_string(getpid()) + "-" + std::to_string(counter++);
}

std::string Toolchain::cached(const std::string& name, const std::function<bool(const std::string&)>& make) const {
  const std::string path = cache_ + "/" + name;
  if (use(path)) return path;
  const std::string partial = temporary() + "-" + name;
  const bool keep = make(partial);
  if (keep && std::rename(partial.c_str(), path.c_str()) != 0) {
    throw std::runtime_error("cannot write " + path + ": " + std::strerror(errno));
  }
  if (!keep) unlink(partial.c_str());
  // A process adds little to what others left.
  static const bool pruned = (prune(fs::path(cache_).parent_path(), most_bytes()), true);
  (void)pruned;
  return keep ? path : "";
}

Toolchain::Output Toolchain::run_on(std::vector<std::string> arguments, const std::string& text) const {
  const std::string file = temporary() + ".cpp";
  write_file(file, text);
  arguments.push_back(file);
  const Output output = run(std::move(arguments));
  unlink(file.c_str());
  return output;
}

Toolchain::Output Toolchain::run(std::vector<std::string> arguments) const { return run(clang_, std::move(arguments)); }

Toolchain::Output Toolchain::run(const std::string& program, std::vector<std::string> arguments) const {
  const std::string base = temporary();
  const std::string out = base + ".out", err = base + ".err";
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid;
  const int spawned = posix_spawn(&pid, program.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) throw std::runtime_error("cannot start " + program + ": " + std::strerror(spawned));
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  Output result{WIFEXITED(status) && WEXITSTATUS(status) == 0, read_file(out), read_file(err)};
  for (const std::string& file : {out, err}) unlink(file.c_str());
  return result;
}

std::string Toolchain::prelude() const {
  return cached("prelude.pch", [&](const std::string& path) {
    std::vector<std::string> arguments = flags();
    arguments[1] = "c++-header";
    arguments.insert(arguments.end(), {"-o", path, headers_ + "/_msl/prelude.h"});
    const Output output = run(arguments);
    if (!output.ok) throw std::runtime_error("the headers of Metal shaders do not compile:\n" + output.error);
    return true;
  });
}

Toolchain::Output Toolchain::preprocess(const std::string& source, const std::vector<std::string>& macros,
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
  return run_on(arguments, "#line 1 \"program_source\"\n" + source + "\n");
}

Toolchain::Output Toolchain::parse(const std::string& text) const {
  std::vector<std::string> arguments = flags();
  arguments.insert(arguments.end(), {"-include-pch", prelude(), "-fsyntax-only", "-Xclang", "-ast-dump"});
  return run_on(arguments, text);
}

Toolchain::Output Toolchain::compile(const std::string& text, const std::string& path) const {
  std::vector<std::string> arguments = flags();
  arguments.insert(arguments.end(), {"-include-pch", prelude()});
  const auto add = [&arguments](const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
  };
  if (!counting_) {
    add(linking(path));
    return run_on(arguments, text);
  }
  const std::string code = temporary() + ".ll";
  add({"-S", "-emit-llvm", "-o", code});
  Output output = run_on(arguments, text);
  if (!output.ok) return output;
  write_file(code, instrument(read_file(code)));
  arguments = {"-x", "ir", "-O2", "-Xclang", "-disable-llvm-passes", "-fPIC"};
  add(linking(path));
  add({code});
  output = run(arguments);
  unlink(code.c_str());
  return output;
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
