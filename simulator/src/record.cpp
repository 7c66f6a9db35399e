#include "record.h"

#include <atomic>
#include <map>
#include <mutex>
#include <stdexcept>

namespace mps_simulator {
namespace {

// The logs since the first open recording, and where in them each one begins.
struct Logs {
  struct Start {
    size_t dispatches;
    size_t operators;
    std::optional<uint64_t> counting;
  };

  std::mutex mutex;
  std::vector<DispatchRecord> dispatches;
  std::vector<std::string> operators;
  std::map<uint64_t, Start> open;
  uint64_t next = 1;
};

// Leaked: work may be in flight when the process ends.
Logs* const logs = new Logs;
std::atomic<bool> is_recording{false};

template <class T>
std::vector<T> from(const std::vector<T>& log, size_t start) {
  return {log.begin() + start, log.end()};
}

}  // namespace

Recorder& Recorder::instance() {
  static Recorder recorder;
  return recorder;
}

uint64_t Recorder::open(std::optional<uint64_t> counting) {
  std::lock_guard<std::mutex> lock(logs->mutex);
  logs->open[logs->next] = {logs->dispatches.size(), logs->operators.size(), counting};
  is_recording = true;
  return logs->next++;
}

Recorder::Recording Recorder::close(uint64_t recording) {
  std::lock_guard<std::mutex> lock(logs->mutex);
  const auto found = logs->open.find(recording);
  if (found == logs->open.end()) throw std::invalid_argument("the recording is not open");
  Recording result{from(logs->dispatches, found->second.dispatches), from(logs->operators, found->second.operators)};
  logs->open.erase(found);
  if (logs->open.empty()) {
    logs->dispatches.clear();
    logs->operators.clear();
    is_recording = false;
  }
  return result;
}

std::optional<uint64_t> Recorder::counting() const {
  if (!recording()) return std::nullopt;
  std::lock_guard<std::mutex> lock(logs->mutex);
  for (auto it = logs->open.rbegin(); it != logs->open.rend(); ++it) {
    if (it->second.counting) return it->second.counting;
  }
  return std::nullopt;
}

bool Recorder::recording() const { return is_recording.load(std::memory_order_relaxed); }

void Recorder::add(DispatchRecord dispatch) {
  std::lock_guard<std::mutex> lock(logs->mutex);
  if (!logs->open.empty()) logs->dispatches.push_back(std::move(dispatch));
}

void Recorder::add_operator(std::string name) {
  std::lock_guard<std::mutex> lock(logs->mutex);
  if (!logs->open.empty()) logs->operators.push_back(std::move(name));
}

}  // namespace mps_simulator
