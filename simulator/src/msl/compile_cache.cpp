#include "compile_cache.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "hash.h"

namespace mps_simulator::msl {
namespace fs = std::filesystem;
namespace {

constexpr time_t kInUse = 600;  // seconds
constexpr size_t kSeal = 64;    // characters of a digest
const char kScratch[] = "tmp-";

fs::path folder_from(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

[[noreturn]] void fail(const std::string& what, const fs::path& path) {
  throw std::runtime_error("cannot " + what + " " + path.string() + ": " + std::strerror(errno));
}

// A folder for what is being made, locked as long as the process lives that makes it.
class Scratch {
 public:
  explicit Scratch(const fs::path& folder) {
    do {  // until nobody swept it before it was locked
      if (lock_ >= 0) close(lock_);
      std::string name = (folder / kScratch).string() + "XXXXXX";
      if (!mkdtemp(name.data())) fail("make a folder in", folder);
      path_ = name;
      lock_ = open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (lock_ >= 0) flock(lock_, LOCK_EX);
    } while (access(path_.c_str(), F_OK) != 0);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
    if (lock_ >= 0) close(lock_);
  }
  Scratch(const Scratch&) = delete;

  const fs::path& path() const { return path_; }

  static void sweep(const fs::path& folder) {
    const int lock = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock < 0) return;
    std::error_code ignored;
    if (flock(lock, LOCK_EX | LOCK_NB) == 0) fs::remove_all(folder, ignored);
    close(lock);
  }

 private:
  fs::path path_;
  int lock_ = -1;
};

// While one lives, other threads that want the same file wait. Left to itself when the process exits.
class Turn {
 public:
  explicit Turn(const fs::path& path) : path_(path) {
    std::unique_lock<std::mutex> lock(state().mutex);
    state().over.wait(lock, [&] { return state().taken.insert(path_).second; });
  }
  ~Turn() {
    {
      std::lock_guard<std::mutex> lock(state().mutex);
      state().taken.erase(path_);
    }
    state().over.notify_all();
  }
  Turn(const Turn&) = delete;

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable over;
    std::set<fs::path> taken;
  };
  static State& state() {
    static State* const state = new State;
    return *state;
  }
  const fs::path path_;
};

bool read(const fs::path& path, std::string& content) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  if (!file || (file.peek() != std::ifstream::traits_type::eof() && !(text << file.rdbuf())) || file.bad())
    return false;
  content = text.str();
  return true;
}

// Whether the file is there, and whole; if so, it has now been used.
bool use(const fs::path& file) {
  std::string content;
  if (!read(file, content) || content.size() < kSeal) return false;
  const std::string_view made = std::string_view(content).substr(0, content.size() - kSeal);
  if (content.compare(made.size(), kSeal, sha256(made)) != 0) return false;
  // By itself a file system notes a reading once a day at most, or never.
  const timespec times[] = {{0, UTIME_NOW}, {0, UTIME_OMIT}};
  utimensat(AT_FDCWD, file.c_str(), times, 0);
  return true;
}

}  // namespace

std::string read_file(const fs::path& path) {
  std::string content;
  if (!read(path, content)) fail("read", path);
  return content;
}

void write_file(const fs::path& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) fail("write", path);
}

void make_private(const fs::path& folder) {
  fs::create_directories(folder.parent_path());
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) fail("make", folder);
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
  const fs::path cache = fs::absolute(base) / "mps-simulator";
  make_private(cache);
  make_private(cache / "msl");
  return cache / "msl";
}

std::string cached(const fs::path& folder, const std::string& name,
                   const std::function<void(const std::string&)>& make) {
  const fs::path path = folder / name;
  const Turn turn(path);
  if (use(path)) return path;
  {
    const Scratch scratch(folder);
    const fs::path made = scratch.path() / name;
    make(made);
    std::ofstream file(made, std::ios::binary | std::ios::app);
    file << sha256(read_file(made));
    file.close();
    if (!file) fail("write", made);
    if (std::rename(made.c_str(), path.c_str()) != 0) fail("write", path);
  }
  // A process adds little to what others left.
  static const bool pruned = (prune(folder.parent_path(), most_bytes()), true);
  (void)pruned;
  return path;
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
    if (lstat(it->path().c_str(), &s) != 0) continue;
    if (S_ISDIR(s.st_mode) && it->path().filename().string().rfind(kScratch, 0) == 0) {
      it.disable_recursion_pending();
      Scratch::sweep(it->path());
    }
    if (!S_ISREG(s.st_mode)) continue;
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
