// The folder of compiled shaders.
#pragma once

#include <cstdint>
#include <filesystem>

namespace mps_simulator::msl {

// mps-simulator/msl in the user's cache folder, for this user alone: its shared objects are loaded into the process.
// Throws std::runtime_error if another could write to it.
std::filesystem::path find_cache();

// A folder like that. Throws std::runtime_error.
void make_private(const std::filesystem::path& folder);

// Whether the file is there; if so, it has now been used.
bool use(const std::filesystem::path& file);

// Removes the files below the cache that were used longest ago, until the others have no more bytes than this. What was
// used in the last minutes stays: a process may be about to load it.
void prune(const std::filesystem::path& cache, uintmax_t most);

// MPS_SIMULATOR_CACHE_MB, else 1 GiB: some thousands of kernels.
uintmax_t most_bytes();

}  // namespace mps_simulator::msl
