#include "plan_json.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <climits>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <utility>

#include "plan.h"

namespace mps_conv_transpose3d {
namespace {

struct Request {
  Geometry geometry;
  DataType dtype = DataType::float32;
  Device device{10};
  bool has_bias = false;
};

// Reads as much of JSON as a request is made of: an object of integers, lists of three integers, booleans and strings.
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
    throw std::invalid_argument("request for a plan: " + what + " at character " + std::to_string(at_));
  }

 private:
  const std::string& text_;
  size_t at_ = 0;
};

DataType dtype_named(const std::string& name, const Reader& reader) {
  constexpr std::pair<const char*, DataType> dtypes[] = {
      {"float32", DataType::float32}, {"float16", DataType::float16}, {"bfloat16", DataType::bfloat16}};
  for (const auto& [dtype_name, dtype] : dtypes) {
    if (name == dtype_name) {
      return dtype;
    }
  }
  reader.fail("no dtype " + name);
}

void read_field(Reader& reader, const std::string& name, Request& request) {
  Geometry& g = request.geometry;
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
    request.dtype = dtype_named(reader.string(), reader);
  } else if (name == "has_bias") {
    request.has_bias = reader.boolean();
  } else if (name == "device") {
    request.device = device_named(reader.string());
  } else if (name == "cores") {
    const int64_t cores = reader.integer();
    request.device.cores = cores < 1 || cores > INT_MAX ? 0 : static_cast<int>(cores);
  } else {
    reader.fail("no field " + name);
  }
}

Request read(const std::string& text) {
  Reader reader(text);
  Request request;
  reader.expect("{");
  if (!reader.takes("}")) {
    do {
      const std::string name = reader.string();
      reader.expect(":");
      read_field(reader, name, request);
    } while (reader.takes(","));
    reader.expect("}");
  }
  if (!reader.at_end()) {
    reader.fail("expected nothing more");
  }
  return request;
}

// The planner counts on what PyTorch has checked of a call.
void check(const Request& request) {
  const auto need = [](bool holds, const char* what) {
    if (!holds) {
      throw std::invalid_argument(std::string("request for a plan: ") + what);
    }
  };
  const Geometry& g = request.geometry;
  const auto all_at_least = [](const std::array<int64_t, 3>& values, int64_t least) {
    return std::all_of(values.begin(), values.end(), [=](int64_t value) { return value >= least; });
  };
  need(request.device.cores >= 1 && request.device.cores <= 1 << 16, "no GPU has so many cores");
  need(g.batch >= 0 && g.groups >= 1 && g.in_channels >= 1 && g.out_channels >= 1 && g.in_channels % g.groups == 0 &&
           g.out_channels % g.groups == 0,
       "no such channels, groups or batch");
  for (const auto& sizes : {g.input, g.kernel, g.stride, g.dilation}) {
    need(all_at_least(sizes, 1), "sizes, strides and dilations begin at 1");
  }
  need(all_at_least(g.padding, 0) && all_at_least(g.output_padding, 0), "paddings begin at 0");
}

// Whether the planner's own arithmetic, of 64 bits, can take them.
bool all_fit(const Geometry& g) {
  constexpr int64_t most = INT32_MAX;
  const auto fit = [](const std::array<int64_t, 3>& values) {
    return std::all_of(values.begin(), values.end(), [](int64_t value) { return value <= most; });
  };
  return g.batch <= most && g.in_channels <= most && g.out_channels <= most && fit(g.input) && fit(g.kernel) &&
         fit(g.stride) && fit(g.padding) && fit(g.output_padding) && fit(g.dilation);
}

// No name of ours, and no text of a plan, has a character that JSON would have escaped.
std::string quoted(const std::string& text) { return '"' + text + '"'; }

std::string pass_json(const char* name, const Plan& plan) {
  std::string kernels;
  for (uint32_t i = 0; i < plan.step_count; ++i) {
    kernels += (i == 0 ? "" : ", ") + quoted(plan.steps[i].kernel.name());
  }
  return quoted(name) + ": {\"kernels\": [" + kernels + "], \"text\": " + quoted(explain(plan)) + "}";
}

}  // namespace

std::string plan_json(const std::string& text) {
  const Request request = read(text);
  check(request);
  const Geometry& g = request.geometry;
  const std::string cores = "{\"cores\": " + std::to_string(request.device.cores) + ", ";
  if (!all_fit(g)) {
    return cores + R"("too_large": "an argument does not fit 32 bits"})";
  }
  const auto output = g.output();
  if (*std::min_element(output.begin(), output.end()) < 1) {
    throw std::invalid_argument("request for a plan: there is no output");
  }
  const auto params =
      make_params(g, contiguous_strides(g.in_channels, g.input), contiguous_strides(g.out_channels, output));
  if (!params) {
    return cores + R"("too_large": "the offsets within one channel do not fit 32 bits"})";
  }
  const auto plan = [&](Pass pass) {
    return make_plan(pass, request.dtype, *params, request.device, std::nullopt, request.has_bias);
  };
  const Plan weight_grad = plan(Pass::weight_grad);
  std::string passes = pass_json("forward", plan(Pass::forward)) + ", " +
                       pass_json("input_grad", plan(Pass::input_grad)) + ", " + pass_json("weight_grad", weight_grad);
  if (request.has_bias && weight_grad.has_bias_grad) {
    passes += R"(, "bias_grad": {"kernels": [], "text": "summed by the kernels of the weight gradient"})";
  } else if (request.has_bias) {
    passes += ", " + pass_json("bias_grad", plan(Pass::bias_grad));
  }
  return cores + "\"passes\": {" + passes + "}}";
}

}  // namespace mps_conv_transpose3d
