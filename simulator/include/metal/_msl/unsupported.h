// Types of Metal that this device does not have: only their names, which a shader cannot give to types of its own.
#pragma once

namespace metal {

struct sampler;
#define MSL_TEXTURE(name) \
  template <class T, int> \
  struct name;
MSL_TEXTURE(texture1d)
MSL_TEXTURE(texture1d_array)
MSL_TEXTURE(texture2d)
MSL_TEXTURE(texture2d_array)
MSL_TEXTURE(texture2d_ms)
MSL_TEXTURE(texture2d_ms_array)
MSL_TEXTURE(texture3d)
MSL_TEXTURE(texturecube)
MSL_TEXTURE(texturecube_array)
MSL_TEXTURE(texture_buffer)
MSL_TEXTURE(depth2d)
MSL_TEXTURE(depth2d_array)
MSL_TEXTURE(depth2d_ms)
MSL_TEXTURE(depth2d_ms_array)
MSL_TEXTURE(depthcube)
MSL_TEXTURE(depthcube_array)
#undef MSL_TEXTURE

}  // namespace metal
