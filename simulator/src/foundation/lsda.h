// What a function's table of exceptions says of one call in it: where to go when the call is left by an exception, and
// for which. The format is that of the Itanium C++ ABI, which GCC's and clang's Objective-C share.
#pragma once

#include <unwind.h>

#include <cstdint>
#include <cstring>

namespace mps_simulator {

struct Clause {
  int64_t filter;    // > 0: a handler; 0: a cleanup; < 0: what a function may throw
  const void* type;  // of a handler; null: it takes all
};

class LandingPad {
 public:
  explicit LandingPad(_Unwind_Context* context) {
    at_ = static_cast<const uint8_t*>(_Unwind_GetLanguageSpecificData(context));
    if (!at_) return;
    const uintptr_t function = _Unwind_GetRegionStart(context);
    int is_before = 0;
    uintptr_t ip = _Unwind_GetIPInfo(context, &is_before);
    if (!is_before) --ip;

    const uint8_t start_encoding = *at_++;
    const uintptr_t start = start_encoding == kOmitted ? function : encoded(start_encoding);
    types_encoding_ = *at_++;
    if (types_encoding_ != kOmitted) {
      const uint64_t offset = uleb();
      types_ = at_ + offset;
    }
    const uint8_t encoding = *at_++;
    const uint64_t length = uleb();
    const uint8_t* const actions = at_ + length;
    while (at_ < actions) {
      const uintptr_t begin = function + encoded(encoding), size = encoded(encoding), pad = encoded(encoding);
      const uint64_t action = uleb();
      if (ip < begin) return;
      if (ip >= begin + size) continue;
      if (pad) address_ = start + pad;
      if (pad && action) action_ = actions + action - 1;
      return;
    }
  }

  uintptr_t address() const { return address_; }  // 0: the exception passes

  // Until `visit` returns true.
  template <class Visit>
  void for_each_clause(Visit visit) const {
    LandingPad reader = *this;
    for (reader.at_ = action_; reader.at_;) {
      const int64_t filter = reader.sleb();
      const uint8_t* const here = reader.at_;
      const int64_t next = reader.sleb();
      if (visit(Clause{filter, filter > 0 ? reader.type(filter) : nullptr})) return;
      reader.at_ = next ? here + next : nullptr;
    }
  }

  bool has_cleanup() const {
    bool found = address_ && !action_;
    for_each_clause([&](const Clause& clause) { return found = clause.filter == 0; });
    return found;
  }

 private:
  static constexpr uint8_t kOmitted = 0xff, kRelative = 0x10, kIndirect = 0x80;

  template <class T>
  uintptr_t fixed() {
    T value;
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return static_cast<uintptr_t>(static_cast<intptr_t>(value));
  }

  uint64_t uleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const uint8_t byte = *at_++;
      value |= uint64_t{byte & 0x7fu} << shift;
      if (!(byte & 0x80)) return value;
    }
  }

  int64_t sleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;;) {
      const uint8_t byte = *at_++;
      value |= uint64_t{byte & 0x7fu} << shift;
      shift += 7;
      if (byte & 0x80) continue;
      if (byte & 0x40 && shift < 64) value |= ~uint64_t{0} << shift;
      return static_cast<int64_t>(value);
    }
  }

  uintptr_t number(uint8_t format) {
    switch (format) {
      case 0x01:
        return uleb();
      case 0x02:
        return fixed<uint16_t>();
      case 0x03:
        return fixed<uint32_t>();
      case 0x09:
        return static_cast<uintptr_t>(sleb());
      case 0x0a:
        return fixed<int16_t>();
      case 0x0b:
        return fixed<int32_t>();
      default:
        return fixed<uint64_t>();
    }
  }

  uintptr_t encoded(uint8_t encoding) {
    const auto here = reinterpret_cast<uintptr_t>(at_);
    uintptr_t value = number(encoding & 0x0f);
    if (value && encoding & kRelative) value += here;
    if (value && encoding & kIndirect) value = *reinterpret_cast<const uintptr_t*>(value);
    return value;
  }

  // The types lie before `types_`, the first one last.
  const void* type(int64_t filter) {
    const unsigned format = types_encoding_ & 0x0f;
    const unsigned size = format == 0x02 || format == 0x0a ? 2 : format == 0x03 || format == 0x0b ? 4 : 8;
    at_ = types_ - filter * size;
    return reinterpret_cast<const void*>(encoded(types_encoding_));
  }

  const uint8_t* at_ = nullptr;  // what is read next
  const uint8_t* types_ = nullptr;
  const uint8_t* action_ = nullptr;  // null: a cleanup alone, or nothing
  uint8_t types_encoding_ = kOmitted;
  uintptr_t address_ = 0;
};

}  // namespace mps_simulator
