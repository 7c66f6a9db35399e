// What host and kernels agree on. Read by the C++ compiler and by Metal's: plain types only.
#pragma once

// One spatial axis of  y[i * stride + k * dilation - padding] += x[i] * w[k].
struct Axis {
  int input, output, taps;  // sizes
  int stride, padding, dilation;
  // With g = gcd(stride, dilation): the taps that reach one output lie tap_step = stride / g apart, and the inputs that
  // they bring to it input_step = dilation / g.
  int tap_step, input_step;
  // Output o = q * stride + phase, with q in [0, quotients). A tap reaches the outputs of one phase, and brings input
  // q + shift to each of them; the shifts of all taps lie in [first_shift, first_shift + shifts).
  int quotients, first_shift, shifts;
};

// In elements. Offsets within a channel fit 32 bits, so that only batch and channel cost 64-bit arithmetic.
struct Strides {
  long batch, channel;
  int depth, height, width;
};

struct Extent {
  int d, h, w;
};

// Divides by multiplying: n / value = mulhi(2 * n, multiplier) >> shift for 0 <= n < 2^31. A GPU takes three times as
// long to divide.
struct FastDivmod {
  int value;
  unsigned int multiplier;
  int shift;
};

struct FastDivmods {
  FastDivmod d, h, w;
};

struct KernelParams {
  Axis depth, height, width;
  FastDivmods inputs;     // size of the input along each axis
  FastDivmods taps;       // size of the kernel along each axis
  FastDivmods quotients;  // quotients of each axis
  FastDivmods phases;     // phases of each axis that a tap reaches
  int positions;          // of the input, in one channel
  int columns;            // (o, kd, kh, kw) of the weight, in one group
  FastDivmod group;       // divides by `groups`
  int batch, groups;
  int in_channels, out_channels;  // of one group
  Strides input;                  // of x or its gradient, [N, C, D, H, W]
  Strides output;                 // of y or its gradient, [N, O, D, H, W]
  // Within a channel, the output that input i reaches through tap k lies at
  // output_start + dot(i, output_of_input) + dot(k, output_of_tap). With padding, output_start is negative.
  int output_start;
  Extent output_of_input, output_of_tap;
  int flat_input;       // 1: D, H and W of the input are contiguous
  int non_overlapping;  // 1: kernel == stride, no padding: each output has one (input, tap)
  int paired_output;    // 1: non_overlapping, and columns 2j and 2j + 1 of the weight reach adjacent outputs
};

// The buffer indices of every kernel.
enum KernelBuffer {
  kInputBuffer = 0,          // x or its gradient
  kWeightBuffer = 1,         // w or its gradient, dense [C, O / groups, kD, kH, kW]
  kOutputBuffer = 2,         // y or its gradient
  kParamsBuffer = 3,         // KernelParams
  kZOffsetBuffer = 4,        // uint: where along z of the grid this dispatch begins
  kBiasBuffer = 5,           // bias or its gradient
  kSplitBuffer = 6,          // SplitK
  kPartialSumsBuffer = 7,    // float32
  kPolyphaseTileBuffer = 8,  // PolyphaseTile
  kTileRowsBuffer = 9,       // int: rows of a matrix kernel's tile, a multiple of tile_rows_unit(), at most BM
};

// Split-K of a sum over all samples, each of k_per_sample terms (positions, or rows of them): `splits` parts of
// `length` terms. A part may begin in one sample and end in another.
struct SplitK {
  int splits, length;
  FastDivmod k_per_sample;
};

// Threads of the matrix kernels with a tile of BM x BN: 4 simdgroups, each with 32x32 elements of the tile or more.
enum { kGemmThreads = 128 };

// Simdgroups that share the same elements of a tile: each multiplies one slice of the K that is staged.
constexpr int k_slices(int bm, int bn) { return kGemmThreads / bm / (bn < 64 ? 1 : 2); }

// BK: how much of K is staged at a time.
constexpr int block_k(int bm, int bn) { return k_slices(bm, bn) > 1 ? 32 : 16; }

// A tile whose number of rows is a multiple of this gives each simdgroup the same number of fragments.
constexpr int tile_rows_unit(int bm) { return bm / 4; }

// The taps, or shifts, of all three axes fit one word as bits; the word's last bit stands for no tap.
enum { kMaxTapBits = 31 };

// A threadgroup of any other kernel has at most so many simdgroups, and threads.
enum { kMaxSimdgroups = 8, kThreads = 32 * kMaxSimdgroups };

// Elements of the weight of which one thread adds up the splits.
enum { kSumElements = 4 };

// Elements along the depth that one thread of a depthwise kernel computes.
enum { kDepthwiseRun = 4 };

// Channels that one thread of a direct kernel computes.
enum { kDirectChannels = 16 };

// What a threadgroup of the polyphase kernels computes: the outputs o = q * stride + phase with q in a box.
struct PolyphaseTile {
  Extent box;                // q along each axis
  FastDivmods boxes;         // boxes of the whole volume along each axis
  Extent shifts;             // shifts along each axis that are staged at a time
  Extent staged;             // inputs along each axis of one staged copy: the box, with a halo for its shifts
  Extent pitch;              // elements in threadgroup memory from an input to that of the next shift along each axis
  Extent box_reciprocal;     // 65536 / box + 1
  Extent staged_reciprocal;  // 65536 / staged + 1
  int copies;                // staged copies: along an axis without a halo, one for each shift
  int copies_h;              // staged copies along the height
  int rows;                  // of the product: the q of the box, flattened
  int positions;             // inputs of all staged copies, in one channel
  int fragment_rows;         // rows of 8x8 fragments that one simdgroup multiplies: at most kPolyphaseFragsM
  int boxes_first;           // 1: grid x walks boxes (the weight is larger than the input). 0: tiles of output channels
};

// Input channels that a polyphase kernel stages at a time.
enum { kPolyphaseBK = 8 };

// Taps that it stages at a time: one for each lane.
enum { kMaxPolyphaseTaps = 32 };

// Positions of the input that one of its threads stages.
enum { kPolyphasePositions = 4 };

// Rows of fragments of one of its simdgroups.
enum { kPolyphaseFragsM = 2 };

// Elements of both operands that it stages: as many as leave room for three threadgroups on a core.
enum { kMaxPolyphaseElements = 4736 };
