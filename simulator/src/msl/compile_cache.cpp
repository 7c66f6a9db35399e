#include "compile_cache.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <string>
#include <vector>

namespace mps_simulator::msl {
namespace fs = std::filesystem;
namespace {

constexpr time_t kInUse = 600;  // seconds

fs::path folder_from(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

void make_private(const fs::path& folder) {
  fs::create_directories(folder.parent_path());
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) {
    throw std::runtime_error("cannot make " + folder.string() + ": " + std::strerror(errno));
  }
  struct stat s;
  if (lstat(folder.c_str(), &s) != 0 || !S_ISDIR(s.st_mode) || s.st_uid != geteuid() || (s.st_mode & 022) != 0) {
    throw std::runtime_error("the shader cache " + folder.string() +
                             " must be a folder that only its owner, this user, can write to");
  }
}

fs::path find_cache() {
  fs::path base = folder_from("XDG_CACHE_HOME");
  if (const fs::path home = folder_from("HOME"); base.empty() && !home.empty()) base = home / ".cache";
  if (base.empty()) base = fs::temp_directory_path() / ("mps-simulator-" + std::to_string(geteuid()));
  const fs::path cache = base / "mps-simulator";
  make_private(cache);
  make_private(cache / "msl");
  return cache / "msl";
}

bool use(const fs::path& file) {
  if (access(file.c_str(), R_OK) != 0) return false;
  // By itself a file system notes a reading once a day at most, or never.
  const timespec times[] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  utimensat(AT_FDCWD, file.c_str(), times, 0);
  return true;
}

void prune(const fs::path& cache, uintmax_t most) {
  struct File {
    time_t used;
    uintmax_t size;
    fs::path path;
  };
  std::vector<File> files;
  uintmax_t size = 0;
  std::error_code gone;  // other processes prune too
  for (fs::recursive_directory_iterator it(cache, gone), end; it != end && !gone; it.increment(gone)) {
    struct stat s;
    if (lstat(it->path().c_str(), &s) != 0 || !S_ISREG(s.st_mode)) continue;
    files.push_back({s.st_atime, static_cast<uintmax_t>(s.st_size), it->path()});
    size += files.back().size;
  }
  std::sort(files.begin(), files.end(), [](const File& a, const File& b) { return a.used < b.used; });
  const time_t in_use = std::time(nullptr) - kInUse;
  for (const File& file : files) {
    if (size <= most || file.used > in_use) return;
    if (unlink(file.path.c_str()) == 0) size -= file.size;
  }
}

uintmax_t most_bytes() {
  const char* megabytes = std::getenv("MPS_SIMULATOR_CACHE_MB");
  return (megabytes ? std::strtoull(megabytes, nullptr, 10) : 1024) << 20;
}

}  // namespace mps_simulator::msl
