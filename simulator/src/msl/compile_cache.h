// The folder of compiled shaders. A file in it ends with a digest of what stands before: one that is damaged, whatever
// damaged it, is made anew. (Readers of libraries, headers and texts stop where these end.)
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace mps_simulator::msl {

// mps-simulator/msl in the user's cache folder, for this user alone: its shared objects are loaded into the process.
// Throws std::runtime_error if another could write to it.
std::filesystem::path find_cache();

// A folder like that. Throws std::runtime_error.
void make_private(const std::filesystem::path& folder);

// The path of the file `name` in the folder, which is in the cache. If it is not there, or damaged, it is made by
// `make(path)`, with a path in a folder of its own; a second thread that wants it waits. Other processes see nothing or
// the whole file.
std::string cached(const std::filesystem::path& folder, const std::string& name,
                   const std::function<void(const std::string&)>& make);

// Removes what killed processes left half made below the cache, and then the files that were used longest ago, until
// the others have no more bytes than this. What was used in the last minutes stays: a process may be about to load it.
void prune(const std::filesystem::path& cache, uintmax_t most);

// MPS_SIMULATOR_CACHE_MB, else 1 GiB: some thousands of kernels.
uintmax_t most_bytes();

// Both throw std::runtime_error, with the system's reason.
std::string read_file(const std::filesystem::path& path);
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace mps_simulator::msl
