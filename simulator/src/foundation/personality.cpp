// C++ exceptions in Objective-C++.
//
// Clang gives every function of a `.mm` the personality of GCC's libobjc, which knows no C++ handler: `catch` would be
// passed over and std::terminate called. This library is linked before libobjc, so this definition is the one found.
#include <dlfcn.h>
#include <unwind.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

using Personality = _Unwind_Reason_Code(int, _Unwind_Action, _Unwind_Exception_Class, _Unwind_Exception*,
                                        _Unwind_Context*);

extern "C" Personality __gxx_personality_v0;

namespace {

// "GNUCC++" and one byte that tells a dependent exception (std::rethrow_exception) from a primary one.
constexpr uint64_t kCxxClass = 0x474e5543432b2b00;

Personality* find_libobjc_personality() {
  void* libobjc = dlopen("libobjc.so.4", RTLD_LAZY | RTLD_NOLOAD);
  auto* personality = libobjc ? reinterpret_cast<Personality*>(dlsym(libobjc, "__gnu_objc_personality_v0")) : nullptr;
  if (!personality) {
    std::fputs("mps_simulator: libobjc.so.4 is not loaded\n", stderr);
    std::abort();
  }
  return personality;
}

}  // namespace

extern "C" _Unwind_Reason_Code __gnu_objc_personality_v0(int version, _Unwind_Action actions,
                                                         _Unwind_Exception_Class exception_class,
                                                         _Unwind_Exception* exception, _Unwind_Context* context) {
  if ((exception_class & ~uint64_t{0xff}) == kCxxClass) {
    return __gxx_personality_v0(version, actions, exception_class, exception, context);
  }
  static Personality* const libobjc_personality = find_libobjc_personality();
  return libobjc_personality(version, actions, exception_class, exception, context);
}
