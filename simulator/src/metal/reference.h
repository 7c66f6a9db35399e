// An owned Objective-C object in a C++ structure.
#pragma once

#import <Foundation/Foundation.h>

#include <utility>

namespace mps_simulator {

template <class T>
class Reference {
 public:
  Reference() = default;
  Reference(T object) : object_([object retain]) {}
  Reference(const Reference& other) : Reference(other.object_) {}
  Reference(Reference&& other) noexcept : object_(std::exchange(other.object_, nil)) {}
  ~Reference() { [object_ release]; }

  Reference& operator=(Reference other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }

  operator T() const { return object_; }
  T get() const { return object_; }

 private:
  T object_ = nil;
};

}  // namespace mps_simulator
