#include "attributes.h"

#include <map>
#include <set>

namespace mps_simulator::msl {

bool is_vector_input(const std::string& name) {
  static const std::set<std::string> names = {
      "thread_position_in_grid",
      "thread_position_in_threadgroup",
      "threadgroup_position_in_grid",
      "threads_per_grid",
      "threadgroups_per_grid",
      "threads_per_threadgroup",
      "dispatch_threads_per_threadgroup",
  };
  return names.count(name) != 0;
}

Attribute attribute(const std::string& name) {
  static const std::map<std::string, Attribute> names = [] {
    std::map<std::string, Attribute> m = {
        {"kernel", Attribute::kernel},
        {"host_name", Attribute::host_name},
        {"id", Attribute::id},
        {"max_total_threads_per_threadgroup", Attribute::max_total_threads_per_threadgroup},
        {"function_constant", Attribute::function_constant},
        {"buffer", Attribute::resource},
        {"threadgroup", Attribute::resource},
    };
    for (const char* n :
         {"thread_index_in_threadgroup", "thread_index_in_simdgroup", "simdgroup_index_in_threadgroup",
          "threads_per_simdgroup", "simdgroups_per_threadgroup", "dispatch_simdgroups_per_threadgroup",
          "thread_execution_width", "quadgroup_index_in_threadgroup", "thread_index_in_quadgroup",
          "thread_position_in_grid", "thread_position_in_threadgroup", "threadgroup_position_in_grid",
          "threads_per_grid", "threadgroups_per_grid", "threads_per_threadgroup", "dispatch_threads_per_threadgroup"}) {
      m[n] = Attribute::input;
    }
    for (const char* n : {"maybe_unused", "nodiscard", "noreturn", "deprecated", "fallthrough", "likely", "unlikely",
                          "always_inline", "noinline", "gnu", "clang"}) {
      m[n] = Attribute::standard;
    }
    for (const char* n : {"vertex",
                          "fragment",
                          "texture",
                          "sampler",
                          "stage_in",
                          "attribute",
                          "vertex_id",
                          "instance_id",
                          "position",
                          "point_size",
                          "point_coord",
                          "color",
                          "user",
                          "flat",
                          "visible",
                          "stitchable",
                          "intersection",
                          "payload",
                          "object",
                          "mesh",
                          "patch",
                          "patch_id",
                          "front_facing",
                          "sample_id",
                          "sample_mask",
                          "early_fragment_tests",
                          "raster_order_group",
                          "grid_origin",
                          "grid_size",
                          "stage_in_grid_origin",
                          "stage_in_grid_size",
                          "render_target_array_index",
                          "viewport_array_index",
                          "imageblock_data",
                          "alias_implicit_imageblock",
                          "base_vertex",
                          "base_instance",
                          "amplification_id",
                          "amplification_count",
                          "clip_distance",
                          "depth",
                          "stencil",
                          "invariant",
                          "primitive_id",
                          "barycentric_coord"}) {
      m[n] = Attribute::unsupported;
    }
    return m;
  }();
  auto found = names.find(name);
  return found == names.end() ? Attribute::unknown : found->second;
}

}  // namespace mps_simulator::msl
