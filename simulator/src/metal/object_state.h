// Private state of Apple's public classes. Their headers declare no instance variables, and with GCC's runtime a class
// can have none that its header does not declare: the state lies behind the object instead.
#pragma once

#import <Foundation/Foundation.h>

#include <memory>
#include <new>

namespace mps_simulator {

template <class State>
State& state_of(id object) {
  return *static_cast<State*>(object_getIndexedIvars(object));
}

}  // namespace mps_simulator

// Inside an @implementation: gives each instance a State, copied by -copy.
#define MPS_SIMULATOR_STATE(State)                                               \
  +(instancetype)allocWithZone : (NSZone*)zone {                                 \
    id object = NSAllocateObject(self, sizeof(State), zone);                     \
    new (object_getIndexedIvars(object)) State();                                \
    return object;                                                               \
  }                                                                              \
  -(id)copyWithZone : (NSZone*)zone {                                            \
    id copy = [[[self class] allocWithZone:zone] init];                          \
    mps_simulator::state_of<State>(copy) = mps_simulator::state_of<State>(self); \
    return copy;                                                                 \
  }                                                                              \
  -(void)dealloc {                                                               \
    std::destroy_at(&mps_simulator::state_of<State>(self));                      \
    [super dealloc];                                                             \
  }

// A property whose value is a member of the State.
#define MPS_SIMULATOR_PROPERTY(State, Type, name, Setter) \
  -(Type)name {                                           \
    return mps_simulator::state_of<State>(self).name;     \
  }                                                       \
  -(void)set##Setter : (Type)value {                      \
    mps_simulator::state_of<State>(self).name = value;    \
  }
