#include "process.h"

#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace mps_simulator::msl {
namespace {

// A file in memory: what goes through it needs no place on a disk, and no reader that keeps pace.
class MemoryFile {
 public:
  explicit MemoryFile(const std::string& text = "") : file_(memfd_create("mps-simulator", MFD_CLOEXEC)) {
    if (file_ < 0) throw std::runtime_error(std::string("no file in memory: ") + std::strerror(errno));
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = write(file_, text.data() + at, text.size() - at);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw std::runtime_error(std::string("cannot write to a file in memory: ") + std::strerror(errno));
      at += static_cast<size_t>(n);
    }
    lseek(file_, 0, SEEK_SET);
  }
  ~MemoryFile() { close(file_); }
  MemoryFile(const MemoryFile&) = delete;

  int descriptor() const { return file_; }

  std::string content() const {
    std::string text(static_cast<size_t>(lseek(file_, 0, SEEK_END)), '\0');
    for (size_t at = 0; at < text.size();) {
      const ssize_t n = pread(file_, text.data() + at, text.size() - at, static_cast<off_t>(at));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) throw std::runtime_error(std::string("cannot read a file in memory: ") + std::strerror(errno));
      at += static_cast<size_t>(n);
    }
    return text;
  }

 private:
  int file_;
};

// A place among the programs that run. Left to itself when the process exits.
class Slot {
 public:
  Slot() {
    std::unique_lock<std::mutex> lock(state().mutex);
    state().over.wait(lock, [] { return state().running < cores(); });
    ++state().running;
  }
  ~Slot() {
    {
      std::lock_guard<std::mutex> lock(state().mutex);
      --state().running;
    }
    state().over.notify_one();
  }
  Slot(const Slot&) = delete;

 private:
  struct State {
    std::mutex mutex;
    std::condition_variable over;
    size_t running = 0;
  };
  static State& state() {
    static State* const state = new State;
    return *state;
  }
};

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> found;
  for (std::string& text : texts) found.push_back(text.data());
  found.push_back(nullptr);
  return found;
}

}  // namespace

size_t cores() { return std::max(1u, std::thread::hardware_concurrency()); }

Output run(std::vector<std::string> command, const std::string& input, const std::string& folder,
           const std::string& scratch) {
  const Slot slot;
  const MemoryFile in(input), out, error;
  std::vector<std::string> environment;
  for (char** variable = environ; *variable; ++variable) {
    if (scratch.empty() || std::strncmp(*variable, "TMPDIR=", 7) != 0) environment.push_back(*variable);
  }
  if (!scratch.empty()) environment.push_back("TMPDIR=" + scratch);

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.descriptor(), 0);
  posix_spawn_file_actions_adddup2(&actions, out.descriptor(), 1);
  posix_spawn_file_actions_adddup2(&actions, error.descriptor(), 2);
  posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
  pid_t pid;
  const int failure =
      posix_spawn(&pid, command[0].c_str(), &actions, nullptr, pointers(command).data(), pointers(environment).data());
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) throw std::runtime_error("cannot start " + command[0] + ": " + std::strerror(failure));

  int status = 0;
  while (waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) throw std::runtime_error("lost sight of " + command[0] + ": " + std::strerror(errno));
  }
  Output output{WIFEXITED(status) && WEXITSTATUS(status) == 0, out.content(), error.content()};
  if (WIFSIGNALED(status)) {
    throw std::runtime_error(command[0] + " was ended by signal " + std::to_string(WTERMSIG(status)) + " (" +
                             strsignal(WTERMSIG(status)) + ")" + (output.error.empty() ? "" : ":\n" + output.error));
  }
  if (!output.ok && output.error.empty()) {
    throw std::runtime_error(command[0] + " failed with exit status " + std::to_string(WEXITSTATUS(status)) +
                             ", and did not say why");
  }
  return output;
}

}  // namespace mps_simulator::msl
