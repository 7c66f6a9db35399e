// What host and kernels agree on. Read by the C++ compiler and by Metal's: plain types only.
#pragma once

// One spatial axis of  y[i * stride + k * dilation - padding] += x[i] * w[k].
struct Axis {
  int input, output, taps;  // sizes
  int stride, padding, dilation;
  // With g = gcd(stride, dilation): the taps that reach one output coordinate lie tap_step = stride / g apart, and the
  // inputs they meet input_step = dilation / g.
  int tap_step, input_step;
  // Output o = q * stride + phase: q runs over [0, quotients). A tap reaches the outputs of one phase, and carries
  // input q + shift to each; the shifts of all taps lie in [first_shift, first_shift + shifts).
  int quotients, first_shift, shifts;
};

// In elements. The spatial offsets of one channel fit 32 bits, so that only batch and channel cost 64-bit arithmetic.
struct Strides {
  long batch, channel;
  int depth, height, width;
};

struct Extent {
  int d, h, w;
};

// n / value = mulhi(2 * n, multiplier) >> shift for 0 <= n < 2^31: a third of the time that a GPU takes to divide.
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
  FastDivmods inputs, taps, quotients, phases;  // how many along each axis; phases: that a tap reaches
  int positions, columns;                       // inputs of one channel; columns (o, tap) of one group's weight
  FastDivmod group;                             // of `groups`
  int batch, groups;
  int in_channels, out_channels;  // of one group
  Strides input;                  // of x or its gradient, [N, C, D, H, W]
  Strides output;                 // of y or its gradient
  // Elements of one channel of the output: where the first input and tap lie, which may be outside, and from there to
  // those of the next input, and of the next tap.
  int output_start;
  Extent output_of_input, output_of_tap;
  // Whether the positions of one channel of the input are neighbours in memory, in their order; whether the kernel
  // tiles the output; and whether it does so in such a way that the columns j of the weight, two and two, are
  // neighbours in the output.
  int flat_input, non_overlapping, paired_output;
};

// The buffer indices of every kernel here.
enum KernelBuffer {
  kInputBuffer = 0,   // x or its gradient
  kWeightBuffer = 1,  // w or its gradient, dense [C, O / groups, kD, kH, kW]
  kOutputBuffer = 2,  // y or its gradient
  kParamsBuffer = 3,
  kZOffsetBuffer = 4,  // where along the grid's z axis this dispatch begins
  kBiasBuffer = 5,     // bias or its gradient
  kSplitBuffer = 6,
  kPartialSumsBuffer = 7,
  kPolyphaseTileBuffer = 8,
  kTileRowsBuffer = 9,  // of the matrix kernels' tiles, no more than their names say: a multiple of tile_rows_unit()
};

// A sum over `k_per_sample` terms of each sample (positions, rows of them, or steps through them), cut into `splits` of
// `length` terms, which go on from one sample to the next.
struct SplitK {
  int splits, length;
  FastDivmod k_per_sample;
};

// Threads of the matrix kernels: 4 simdgroups, each of at least 32x32 elements of the tile.
enum { kGemmThreads = 128 };

// Simdgroups that share the same elements of a tile of m x n: each multiplies a slice of what is staged at a time. And
// the depth that is staged.
constexpr int k_slices(int m, int n) { return kGemmThreads / m / (n < 64 ? 1 : 2); }
constexpr int block_k(int m, int n) { return k_slices(m, n) > 1 ? 32 : 16; }

// With so many rows, and multiples of it, the simdgroups have the same number of fragments.
constexpr int tile_rows_unit(int m) { return m / 4; }

// The matrix kernels keep sets of taps, or of shifts, of the three axes in one word, whose last bit is for "none".
enum { kMaxTapBits = 31 };

// Simdgroups, and threads, of a threadgroup of any other kernel at most.
enum { kMaxSimdgroups = 8, kThreads = 32 * kMaxSimdgroups };

// Elements of the weight of which each thread adds up the splits.
enum { kSumElements = 4 };

// Elements that a thread computes: of a narrow kernel along the depth, of a direct one along the channels.
enum { kDepthwiseRun = 4, kDirectChannels = 16 };

// A threadgroup's part of the forward pass by phases.
struct PolyphaseTile {
  Extent box;                                // rows: positions q, flattened
  FastDivmods boxes;                         // in the whole volume
  Extent shifts;                             // at most so many are staged at a time
  Extent staged;                             // positions of the input: the box with its halo
  Extent pitch;                              // elements from a staged position to that of the next shift
  Extent box_reciprocal, staged_reciprocal;  // 65536 / n + 1
  int copies, copies_h;                      // of `staged`, one for each shift along axes without a halo; along height
  int rows, positions;                       // of the box, and staged
  int fragment_rows;                         // of 8 rows, that a simdgroup multiplies: at most kPolyphaseRows
  int boxes_first;                           // whether neighbouring threadgroups have boxes, or columns, of their own
};

// Channels that are staged at a time; taps of one stage; the positions that a thread stages; and fragments of rows.
enum { kPolyphaseBK = 8, kMaxPolyphaseTaps = 32, kPolyphasePositions = 4, kPolyphaseRows = 2 };

// Elements of both operands that a threadgroup stages at most: as many as leave room for three threadgroups on a core.
enum { kMaxPolyphaseElements = 4736 };
