#include "planner/json.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <climits>
#include <cstdint>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <type_traits>
#include <utility>
#include <vector>

#include "planner/plan.h"

namespace mps_conv_transpose3d {
namespace {

struct Question {
  std::string about = "call";
  ProblemSize size;
  DataType dtype = DataType::float32;
  Gpu gpu{10};
  bool has_bias = false;
  const Algorithm* algorithm = nullptr;
};

// Reads as much of JSON as a question is made of: an object of integers, lists of three integers, booleans and strings.
class Reader {
 public:
  explicit Reader(const std::string& text) : text_(text) {}

  // Whether that comes next; then it is passed over.
  bool takes(const char* token) {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) {
      ++at_;
    }
    const std::string word(token);
    const bool found = text_.compare(at_, word.size(), word) == 0;
    at_ += found ? word.size() : 0;
    return found;
  }

  void expect(const char* token) {
    if (!takes(token)) {
      fail(std::string("expected ") + token);
    }
  }

  std::string string() {
    expect("\"");
    const size_t end = text_.find_first_of("\"\\", at_);
    if (end == std::string::npos || text_[end] != '"') {
      fail("expected a string without escapes");
    }
    const std::string value = text_.substr(at_, end - at_);
    at_ = end + 1;
    return value;
  }

  int64_t integer() {
    takes("");  // passes over blanks
    int64_t value = 0;
    const char* const begin = text_.data() + at_;
    const auto result = std::from_chars(begin, text_.data() + text_.size(), value);
    if (result.ec != std::errc()) {
      fail("expected an integer of 64 bits");
    }
    at_ += result.ptr - begin;
    return value;
  }

  std::array<int64_t, 3> integers() {
    std::array<int64_t, 3> values{};
    for (size_t i = 0; i < 3; ++i) {
      expect(i == 0 ? "[" : ",");
      values[i] = integer();
    }
    expect("]");
    return values;
  }

  bool boolean() {
    const bool value = takes("true");
    if (!value) {
      expect("false");
    }
    return value;
  }

  bool at_end() {
    takes("");
    return at_ == text_.size();
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument("question to the planner: " + what + " at character " + std::to_string(at_));
  }

 private:
  const std::string& text_;
  size_t at_ = 0;
};

DataType dtype_named(const std::string& name, const Reader& reader) {
  for (size_t i = 0; i < kDataTypeNames.size(); ++i) {
    if (name == kDataTypeNames[i]) {
      return static_cast<DataType>(i);
    }
  }
  reader.fail("no dtype " + name);
}

void read_field(Reader& reader, const std::string& name, Question& question) {
  ProblemSize& g = question.size;
  const std::pair<const char*, int64_t*> integers[] = {
      {"batch", &g.batch}, {"in_channels", &g.in_channels}, {"out_channels", &g.out_channels}, {"groups", &g.groups}};
  const std::pair<const char*, std::array<int64_t, 3>*> triples[] = {
      {"input", &g.input},     {"kernel", &g.kernel},     {"stride", &g.stride},
      {"padding", &g.padding}, {"dilation", &g.dilation}, {"output_padding", &g.output_padding}};
  for (const auto& [field, value] : integers) {
    if (name == field) {
      *value = reader.integer();
      return;
    }
  }
  for (const auto& [field, values] : triples) {
    if (name == field) {
      *values = reader.integers();
      return;
    }
  }
  if (name == "dtype") {
    question.dtype = dtype_named(reader.string(), reader);
  } else if (name == "has_bias") {
    question.has_bias = reader.boolean();
  } else if (name == "about") {
    question.about = reader.string();
  } else if (name == "algorithm") {
    const std::string algorithm = reader.string();
    question.algorithm = algorithm_named(algorithm);
    if (!question.algorithm) {
      reader.fail("no algorithm " + algorithm);
    }
  } else if (name == "device") {
    question.gpu = gpu_named(reader.string());
  } else if (name == "cores") {
    const int64_t cores = reader.integer();
    question.gpu.cores = cores < 1 || cores > INT_MAX ? 0 : static_cast<int>(cores);
  } else {
    reader.fail("no field " + name);
  }
}

Question read(const std::string& text) {
  Reader reader(text);
  Question question;
  reader.expect("{");
  if (!reader.takes("}")) {
    do {
      const std::string name = reader.string();
      reader.expect(":");
      read_field(reader, name, question);
    } while (reader.takes(","));
    reader.expect("}");
  }
  if (!reader.at_end()) {
    reader.fail("expected nothing more");
  }
  return question;
}

// The planner counts on what PyTorch has checked of a call.
void check(const Question& question) {
  const auto need = [](bool holds, const char* what) {
    if (!holds) {
      throw std::invalid_argument(std::string("question to the planner: ") + what);
    }
  };
  const ProblemSize& g = question.size;
  const auto all_at_least = [](const std::array<int64_t, 3>& values, int64_t least) {
    return std::all_of(values.begin(), values.end(), [=](int64_t value) { return value >= least; });
  };
  need(question.gpu.cores >= 1 && question.gpu.cores < 1 << 16, "no GPU has so many cores");
  need(g.batch >= 1 && g.groups >= 1 && g.in_channels >= 1 && g.out_channels >= 1 && g.in_channels % g.groups == 0 &&
           g.out_channels % g.groups == 0,
       "no such channels, groups or batch");
  for (const auto& sizes : {g.input, g.kernel, g.stride, g.dilation}) {
    need(all_at_least(sizes, 1), "sizes, strides and dilations begin at 1");
  }
  need(all_at_least(g.padding, 0) && all_at_least(g.output_padding, 0), "paddings begin at 0");
}

// Whether the planner's own arithmetic, of 64 bits, can take them.
bool all_fit(const ProblemSize& g) {
  constexpr int64_t most = INT32_MAX;
  const auto fit = [](const std::array<int64_t, 3>& values) {
    return std::all_of(values.begin(), values.end(), [](int64_t value) { return value <= most; });
  };
  return g.batch <= most && g.in_channels <= most && g.out_channels <= most && fit(g.input) && fit(g.kernel) &&
         fit(g.stride) && fit(g.padding) && fit(g.output_padding) && fit(g.dilation);
}

// No name and no text here has a character that JSON would have escaped.
std::string json(const std::string& text) { return '"' + text + '"'; }
std::string json(const char* text) { return json(std::string(text)); }
std::string json(bool value) { return value ? "true" : "false"; }
std::string json(double value) {
  std::ostringstream text;
  text.precision(17);
  text << value;
  return text.str();
}
template <typename T, typename = std::enable_if_t<std::is_integral_v<T>>>
std::string json(T value) {
  return std::to_string(value);
}
std::string json(Extent e) { return "[" + json(e.d) + ", " + json(e.h) + ", " + json(e.w) + "]"; }
template <typename T>
std::string json(const std::array<T, 3>& values) {
  return "[" + json(values[0]) + ", " + json(values[1]) + ", " + json(values[2]) + "]";
}

std::string json(const SplitK& split) {
  return json(std::array<int, 3>{split.splits, split.length, split.k_per_sample.value});
}

using Fields = std::vector<std::pair<const char*, std::string>>;

std::string object(const Fields& fields) {
  std::string text;
  for (const auto& [name, value] : fields) {
    text += (text.empty() ? "" : ", ") + json(name) + ": " + value;
  }
  return "{" + text + "}";
}

std::string list(const std::vector<std::string>& values) {
  std::string text;
  for (const std::string& value : values) {
    text += (text.empty() ? "" : ", ") + value;
  }
  return "[" + text + "]";
}

std::string json(const PolyphaseTile& t) {
  const FastDivmods& boxes = t.boxes;
  return object({{"box", json(t.box)},
                 {"boxes", json(std::array<int, 3>{boxes.d.value, boxes.h.value, boxes.w.value})},
                 {"shifts", json(t.shifts)},
                 {"staged", json(t.staged)},
                 {"pitch", json(t.pitch)},
                 {"box_reciprocal", json(t.box_reciprocal)},
                 {"staged_reciprocal", json(t.staged_reciprocal)},
                 {"copies", json(t.copies)},
                 {"copies_h", json(t.copies_h)},
                 {"rows", json(t.rows)},
                 {"positions", json(t.positions)},
                 {"fragment_rows", json(t.fragment_rows)}});
}

template <typename T>
std::string json(const std::optional<T>& value) {
  return value ? json(*value) : "null";
}

std::string json(const Dispatch& d) {
  return object({{"kernel", json(d.kernel.name())},
                 {"algorithm", d.kernel.algorithm ? json(d.kernel.algorithm->name) : "null"},
                 {"threads", json(d.threads)},
                 {"threads_per_threadgroup", json(d.threads_per_threadgroup)},
                 {"z_per_dispatch", json(d.z_per_dispatch)},
                 {"tile_rows", json(d.tile_rows)},
                 {"split_k", json(d.split_k)},
                 {"polyphase_tile", json(d.polyphase_tile)}});
}

std::string json(const Plan& plan) {
  std::vector<std::string> dispatches;
  for (const auto& dispatch : plan.dispatches) {
    if (dispatch) {
      dispatches.push_back(json(*dispatch));
    }
  }
  return object({{"dispatches", list(dispatches)},
                 {"partial_sums", json(plan.partial_sums)},
                 {"has_bias_grad", json(plan.has_bias_grad)},
                 {"text", json(explain(plan))}});
}

std::string about_call(const Question& question) {
  check(question);
  const ProblemSize& g = question.size;
  const auto too_large = [&](const char* why) {
    return object({{"cores", json(question.gpu.cores)}, {"too_large", json(why)}});
  };
  if (!all_fit(g)) {
    return too_large("an argument does not fit 32 bits");
  }
  const auto output = g.output();
  if (*std::min_element(output.begin(), output.end()) < 1) {
    throw std::invalid_argument("question to the planner: there is no output");
  }
  const auto params =
      make_params(g, contiguous_strides(g.in_channels, g.input), contiguous_strides(g.out_channels, output));
  if (!params) {
    return too_large("the offsets within one channel do not fit 32 bits");
  }
  Fields passes;
  for (size_t i = 0; i < kPassNames.size(); ++i) {
    passes.emplace_back(kPassNames[i], json(make_plan(static_cast<Pass>(i), question.dtype, *params, question.gpu,
                                                      question.algorithm, question.has_bias)));
  }
  return object({{"cores", json(question.gpu.cores)}, {"output", json(output)}, {"passes", object(passes)}});
}

std::string about_algorithms() {
  std::vector<std::string> rows;
  for (const Algorithm& algorithm : kAlgorithms) {
    std::vector<std::string> passes;
    for (size_t i = 0; i < kPassNames.size(); ++i) {
      if (algorithm.library(static_cast<Pass>(i)) != Library::none) {
        passes.push_back(json(kPassNames[i]));
      }
    }
    rows.push_back(object({{"name", json(algorithm.name)},
                           {"passes", list(passes)},
                           {"bm", json(algorithm.tile.bm)},
                           {"bn", json(algorithm.tile.bn)}}));
  }
  return object({{"algorithms", list(rows)},
                 {"threads", json(int{kThreads})},
                 {"gemm_threads", json(int{kGemmThreads})},
                 {"max_polyphase_elements", json(int{kMaxPolyphaseElements})}});
}

std::string about_gpu() {
  Fields instructions;
  for (const auto& [name, cycles] : kInstructions) {
    instructions.emplace_back(name, json(cycles));
  }
  std::vector<std::string> chips;
  for (const Chip& chip : kChips) {
    chips.push_back(object({{"name", json(chip.name)},
                            {"cores", json(chip.cores)},
                            {"ghz", json(chip.ghz)},
                            {"bandwidth", json(chip.bandwidth)},
                            {"cache_mib", json(chip.cache_mib)},
                            {"family", json(chip.family)}}));
  }
  const std::string core = object({{"lanes", json(kCore.lanes)},
                                   {"simd_width", json(kCore.simd_width)},
                                   {"on_core_bytes", json(kCore.on_core_bytes)},
                                   {"l2_bytes", json(kCore.l2_bytes)},
                                   {"line_bytes", json(kCore.line_bytes)},
                                   {"attainable", json(kCore.attainable)},
                                   {"threadgroup_memory", json(kCore.threadgroup_memory)},
                                   {"registers", json(kCore.registers)},
                                   {"max_threads", json(kCore.max_threads)},
                                   {"max_words", json(kCore.max_words)},
                                   {"in_flight_when_busy", json(kCore.in_flight_when_busy)}});
  return object({{"core", core}, {"instructions", object(instructions)}, {"chips", list(chips)}});
}

}  // namespace

std::string answer(const std::string& text) {
  const Question question = read(text);
  if (question.about == "algorithms") {
    return about_algorithms();
  }
  if (question.about == "gpu") {
    return about_gpu();
  }
  if (question.about != "call") {
    throw std::invalid_argument("question to the planner: nothing is known about " + question.about);
  }
  return about_call(question);
}

}  // namespace mps_conv_transpose3d
