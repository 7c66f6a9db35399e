#import "raise.h"

#include <objc/runtime.h>

#include <cstdlib>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace mps_simulator {
namespace {

id raise_instead(id, SEL selector, ...) {
  [NSException raise:NSInternalInconsistencyException
              format:@"-%s raised, as MPS_SIMULATOR_RAISE asks for", sel_getName(selector)];
  return nil;
}

std::vector<std::string> prefixes_in(const std::string& text) {
  std::vector<std::string> prefixes;
  std::istringstream stream(text);
  for (std::string prefix; std::getline(stream, prefix, ',');) prefixes.push_back(prefix);
  return prefixes;
}

// The methods that `c` and the classes above it have of their own.
std::vector<Method> methods_of(Class c) {
  std::vector<Method> methods;
  for (; c && c != [NSObject class]; c = class_getSuperclass(c)) {
    unsigned count = 0;
    Method* list = class_copyMethodList(c, &count);
    methods.insert(methods.end(), list, list + count);
    std::free(list);
  }
  return methods;
}

bool begins_with(Method method, const std::string& prefix) {
  return std::string(sel_getName(method_getName(method))).rfind(prefix, 0) == 0;
}

void check(const std::string& prefix) {
  for (const char* name : {"SimulatedComputeEncoder", "SimulatedCommandBuffer"}) {
    for (Method method : methods_of(objc_getClass(name))) {
      if (!prefix.empty() && begins_with(method, prefix)) return;
    }
  }
  throw std::runtime_error("MPS_SIMULATOR_RAISE: no selector of compute encoders and command buffers begins with '" +
                           prefix + "'");
}

// A subclass whose methods raise.
Class make_class(Class base, const std::string& name, const std::vector<std::string>& prefixes) {
  for (const std::string& prefix : prefixes) check(prefix);
  Class made = objc_allocateClassPair(base, name.c_str(), 0);
  for (Method method : methods_of(base)) {
    for (const std::string& prefix : prefixes) {
      if (begins_with(method, prefix)) {
        class_addMethod(made, method_getName(method), reinterpret_cast<IMP>(raise_instead),
                        method_getTypeEncoding(method));
      }
    }
  }
  objc_registerClassPair(made);
  return made;
}

}  // namespace

void raise_where_asked(id object) {
  const char* text = std::getenv("MPS_SIMULATOR_RAISE");
  if (!text || !*text) return;
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  Class base = object_getClass(object);
  const std::string name = std::string(class_getName(base)) + " raising in " + text;
  Class made = objc_lookUpClass(name.c_str());
  object_setClass(object, made ? made : make_class(base, name, prefixes_in(text)));
}

}  // namespace mps_simulator
