// The address space of `this`.
//
// A member function is for objects in `thread` memory, or in the address spaces that stand behind its parameter list.
// From Metal 4.1 on, one without any is for all but `constant` ones, and `this` is then a pointer that no longer says
// where its object lies. Here one function serves objects everywhere, so it is looked up afterwards on what each is
// called and what is done with `this` in it.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "dump.h"

namespace mps_simulator::msl {

class ThisSpace {
 public:
  using Error = std::function<void(const Location&, const std::string&)>;

  // `stack`: the nodes around the present one.
  ThisSpace(const DumpReader& dump, const std::vector<Node>& stack, unsigned language_version)
      : dump_(dump), stack_(stack), generic_(language_version >= 410) {}

  // Of each node, before it is on the stack.
  void visit(const Node& node);

  // A member function, by address, is called on an object of this type.
  void call(const Location& where, const std::string& function, const std::string& object);

  void report(const Error& error) const;

 private:
  struct Method {
    std::string type, result_class;
    std::vector<std::string> spaces;  // as they stand in the source
    bool everywhere = false;          // of Metal's own classes, or made by the compiler
  };
  // What becomes of `this`, of a member, or of a pointer to one, in a member function.
  struct Use {
    Location where;
    std::string in;      // the function
    std::string type;    // what it is bound to: a pointer or a reference ...
    std::string callee;  // ... or the function whose parameter that is
    size_t parameter = 0;
    bool is_object = false;  // ... or whose object it is
    bool explicit_cast = false;
  };
  struct Construction {
    Location where;
    std::string in, type, signature;
  };
  struct Call {
    Location where;
    std::string function, object;
  };

  const DumpReader& dump_;
  const std::vector<Node>& stack_;
  const bool generic_;
  std::map<std::string, Method> methods_;                         // by address
  std::map<std::string, std::vector<std::string>> constructors_;  // addresses by class and type
  std::set<std::string> reference_members_;
  std::vector<Use> uses_;
  std::vector<Construction> constructions_;
  std::vector<Call> calls_;

  void member_construction(const Node& node);
  void used(const Node& object, Use use);
  std::string space_of(const Method& method) const;
  bool serves(const Method& method, const std::string& space) const;
};

}  // namespace mps_simulator::msl
