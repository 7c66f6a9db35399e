// Exceptions in Objective-C++, as on a Mac: an NSException is a C++ exception that `@catch` knows by its class, so that
// `catch (...)` takes it, std::exception_ptr carries it, and destructors run as it passes.
//
// Clang gives every function of a `.mm` the personality of GCC's libobjc, which knows no C++ handler, and writes
// classes into the same tables as C++'s types. This library is linked before libobjc and libstdc++, so the three
// functions defined here are the ones found.
#import <Foundation/Foundation.h>
#include <dlfcn.h>
#include <objc/runtime.h>
#include <unwind.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <typeinfo>
#include <utility>

#include "lsda.h"

using namespace mps_simulator;

using Personality = _Unwind_Reason_Code(int, _Unwind_Action, _Unwind_Exception_Class, _Unwind_Exception*,
                                        _Unwind_Context*);

extern "C" Personality __gxx_personality_v0;

namespace {

// What is thrown.
struct ObjectiveCException {
  explicit ObjectiveCException(id object) : object([object retain]) {}
  ObjectiveCException(const ObjectiveCException& other) : object([other.object retain]) {}
  ~ObjectiveCException() { [object release]; }
  id object;
};

// "GNUCC++" and one byte that tells a dependent exception (std::rethrow_exception) from a primary one.
constexpr uint64_t kCxxClass = 0x474e5543432b2b00;

// What libstdc++ has before each exception: __cxa_exception, or __cxa_dependent_exception.
struct Header {
  const void* type;  // of a dependent one: the primary one's object
  void (*destructor)(void*);
  void (*unexpected_handler)();
  void (*terminate_handler)();
  Header* next;
  int handler_count;
  int handler_switch_value;
  const unsigned char* action_record;
  const unsigned char* language_specific_data;
  uintptr_t catch_temp;
  void* adjusted;  // what __cxa_begin_catch returns
  _Unwind_Exception unwind;
};

Header& header_of(void* object) { return *(static_cast<Header*>(object) - 1); }

struct Thrown {
  explicit Thrown(_Unwind_Exception* exception) : object(exception + 1) {
    const bool dependent = exception->exception_class & 1;
    if (dependent) object = const_cast<void*>(header_of(object).type);
    type = static_cast<const std::type_info*>(header_of(object).type);
    if (*type == typeid(ObjectiveCException)) objc = static_cast<ObjectiveCException*>(object)->object;
  }

  void* object;
  const std::type_info* type;
  id objc = nil;
};

const void* first_word(const void* object) {
  const void* word;
  std::memcpy(&word, object, sizeof word);
  return word;
}

// A handler's type is a std::type_info, or the name of a class: told apart by the table of virtual functions.
bool names_a_class(const void* type) {
  struct Base {};
  struct Derived : Base {};
  struct Other {};
  struct Both : Base, Other {};
  enum Enum {};
  static const void* const tables[] = {
      first_word(&typeid(int)),  first_word(&typeid(int*)),    first_word(&typeid(Enum)),
      first_word(&typeid(Base)), first_word(&typeid(Derived)), first_word(&typeid(int Base::*)),
      first_word(&typeid(Both)),
  };
  if (!type) return false;
  for (const void* table : tables) {
    if (first_word(type) == table) return false;
  }
  return true;
}

bool is_kind_of(id object, const char* name) {
  Class wanted = objc_lookUpClass(name);
  for (Class c = object_getClass(object); wanted && c; c = class_getSuperclass(c)) {
    if (c == wanted) return true;
  }
  return false;
}

// Whether a handler of this type takes the exception; `object` then points to what it sees of it.
bool takes(const void* type, const Thrown& thrown, void*& object) {
  object = thrown.objc ? static_cast<void*>(thrown.objc) : thrown.object;
  if (!type) return true;
  if (names_a_class(type)) return thrown.objc && is_kind_of(thrown.objc, static_cast<const char*>(type));
  object = thrown.type->__is_pointer_p() ? *static_cast<void**>(thrown.object) : thrown.object;
  return static_cast<const std::type_info*>(type)->__do_catch(thrown.type, &object, 1);
}

// Clang's code for `@catch` takes the object itself, and its code for `catch (...)` hands what it was given to
// __cxa_begin_catch. The table does not tell one from the other, so both get the object.
struct Delivered {
  void* object;
  _Unwind_Exception* exception;
};
thread_local Delivered delivered;

_Unwind_Reason_Code install(_Unwind_Context* context, const LandingPad& pad, const void* value, int64_t filter) {
  _Unwind_SetGR(context, __builtin_eh_return_data_regno(0), reinterpret_cast<uintptr_t>(value));
  _Unwind_SetGR(context, __builtin_eh_return_data_regno(1), filter);
  _Unwind_SetIP(context, pad.address());
  return _URC_INSTALL_CONTEXT;
}

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

extern "C" {

void objc_exception_throw(id object) { throw ObjectiveCException(object); }

void* __cxa_begin_catch(void* exception) noexcept {
  using BeginCatch = void*(void*);
  static auto* const next = reinterpret_cast<BeginCatch*>(dlsym(RTLD_NEXT, "__cxa_begin_catch"));
  if (exception && exception == delivered.object) exception = std::exchange(delivered, {}).exception;
  return next(exception);
}

_Unwind_Reason_Code __gnu_objc_personality_v0(int version, _Unwind_Action actions,
                                              _Unwind_Exception_Class exception_class, _Unwind_Exception* exception,
                                              _Unwind_Context* context) {
  if ((exception_class & ~uint64_t{0xff}) != kCxxClass) {
    static Personality* const libobjc_personality = find_libobjc_personality();
    return libobjc_personality(version, actions, exception_class, exception, context);
  }
  const LandingPad pad(context);
  const Thrown thrown(exception);
  bool has_classes = false;
  pad.for_each_clause([&](const Clause& clause) { return has_classes = names_a_class(clause.type); });
  if (!thrown.objc && !has_classes) {
    return __gxx_personality_v0(version, actions, exception_class, exception, context);
  }
  if (!pad.address()) return _URC_CONTINUE_UNWIND;

  Clause handler{};
  void* seen = nullptr;
  if (!(actions & _UA_FORCE_UNWIND)) {
    pad.for_each_clause([&](const Clause& clause) {
      const bool found = clause.filter > 0 && takes(clause.type, thrown, seen);
      if (found) handler = clause;
      return found;
    });
  }
  if (actions & _UA_SEARCH_PHASE) return handler.filter ? _URC_HANDLER_FOUND : _URC_CONTINUE_UNWIND;
  if (!(actions & _UA_HANDLER_FRAME)) {
    return pad.has_cleanup() ? install(context, pad, exception, 0) : _URC_CONTINUE_UNWIND;
  }
  header_of(exception + 1).adjusted = seen;
  if (!thrown.objc) return install(context, pad, exception, handler.filter);
  delivered = {seen, exception};
  return install(context, pad, seen, handler.filter);
}

}  // extern "C"
