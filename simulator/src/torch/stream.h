// Streams by the names that PyTorch's device guard and hooks know them by. The class itself is torch's own, from
// ATen/mps/MPSStream.h, implemented in stream.mm.
#pragma once

#include <ATen/mps/MPSStream.h>
#include <c10/core/Stream.h>

#include <functional>

namespace mps_simulator {

// The stream with this id, made at its first use: 0 is the default stream, 1 to 32 the pool.
at::mps::MPSStream* get_stream(c10::StreamId id);

// The next stream of the pool, round robin.
at::mps::MPSStream* next_stream();

// Of this thread, by its id: a forked child may ask for it, as autograd does, and has no stream.
c10::Stream current_stream();

// Per thread, the default stream to begin with. Returns the one that was current.
at::mps::MPSStream* exchange_current_stream(at::mps::MPSStream* stream);

// Whether the caller is inside a block of the stream's serial queue.
bool on_queue(const at::mps::MPSStream* stream);

// Runs `body` on the stream's serial queue; exceptions come through. A deadlock, reported as one, when the caller is
// there already.
void run_on_queue(at::mps::MPSStream* stream, const std::function<void()>& body);

// True when nothing encoded on the stream is unfinished.
bool idle(at::mps::MPSStream* stream);

// Commit what the stream, or every stream, was given and wait for it; raises the error of a command buffer that failed.
void synchronize(at::mps::MPSStream* stream);
void synchronize_all();

// Raises the error of a command buffer of this stream that is known to have failed; does not wait.
void raise_faults(at::mps::MPSStream* stream);

}  // namespace mps_simulator
