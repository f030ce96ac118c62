// The shapes and sizes that units accept. path_unit.cpp runs them.
#include "core/unit.h"

namespace edgebnn {

const char* Unit::shape_error(const UnitShape& shape) {
  if (shape.inputs < 1 || shape.outputs < 1) return "a unit needs at least one input and one output channel";
  if (shape.inputs > kMaxChannels || shape.outputs > kMaxChannels) return "a unit may have at most 16384 channels";
  if (shape.kernel != 1 && shape.kernel != 3) return "the kernel must be 1x1 or 3x3";
  if (shape.kernel * shape.kernel * shape.inputs > kMaxTerms) return "a 3x3 unit may have at most 3640 input channels";
  switch (shape.shortcut) {
    case Shortcut::kIdentity:
      if (shape.stride != 1) return "the identity shortcut needs stride 1";
      if (shape.outputs != shape.inputs) return "the identity shortcut needs as many outputs as inputs";
      break;
    case Shortcut::kPool:
    case Shortcut::kPooled:
      if (shape.stride != 2) return "a shortcut that is pooled needs stride 2";
      if (shape.outputs != shape.inputs) return "a shortcut that is pooled needs as many outputs as inputs";
      break;
    case Shortcut::kRepeat:
      if (shape.stride != 1) return "the repeat shortcut needs stride 1";
      if (shape.outputs != 2 * shape.inputs) return "the repeat shortcut needs twice as many outputs as inputs";
      break;
    case Shortcut::kNone:
      if (shape.stride != 1 && shape.stride != 2) return "the stride must be 1 or 2";
      break;
  }
  return nullptr;
}

const char* size_error(int stride, std::int64_t batch, std::int64_t height, std::int64_t width) {
  constexpr std::int64_t kMaxSide = 1 << 14, kMaxBatch = 1 << 20;
  if (batch < 0 || batch > kMaxBatch) return "the batch must be 0 to 1048576 images";
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide) return "height and width must be 1 to 16384";
  if (stride == 2 && (height % 2 || width % 2)) return "height and width must be even for stride 2";
  return nullptr;
}

const char* Unit::input_error(std::int64_t batch, std::int64_t height, std::int64_t width, bool pooled) const {
  if (const char* problem = size_error(shape_.stride, batch, height, width)) return problem;
  if (pooled && (height / shape_.stride % 2 || width / shape_.stride % 2)) {
    return "the output's height and width must be even for its 2x2 average";
  }
  return nullptr;
}

}  // namespace edgebnn
