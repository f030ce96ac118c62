// The convolution of an image that a network begins with: floats, 3x3, a border of zeros one pixel wide.
//
//     y = bias[o];  y = w * x + y, fused, for all weights w and what they see of the image, by channel, row and column
//
// That is the order of a weight's values in memory. Fused: each w * x + y is rounded once (IEEE 754-2008,
// fusedMultiplyAdd). The border's zeros are multiplied and added like any other value. So every path gives the same
// bits as edgebnn/graph/reference.py. The image is NCHW, as applications have it; the output is NHWC, its bits as in
// unit.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/unit.h"

namespace edgebnn {

struct ImageConvShape {
  int channels = 0;  // of the image
  int outputs = 0;
  int stride = 0;  // 1 or 2
};

struct ImageConvConstants {
  const float* weight = nullptr;          // (outputs, channels, 3, 3)
  const float* bias = nullptr;            // (outputs)
  const float* next_threshold = nullptr;  // (outputs), of the unit that follows; or null
};

class ImageConv {
 public:
  virtual ~ImageConv() = default;

  // What is wrong with a shape, or null. `make` and `run` must be given shapes that pass.
  static const char* complaint(const ImageConvShape& shape);

  // What is wrong with images of this size, or null.
  const char* complaint(std::int64_t batch, std::int64_t height, std::int64_t width) const;

  // Copies and rearranges the constants for an instruction set, which must be available.
  static std::unique_ptr<ImageConv> make(const ImageConvShape& shape, const ImageConvConstants& constants, Isa isa);

  const ImageConvShape& shape() const { return shape_; }

  virtual bool writes_bits() const = 0;

  // The instruction set it was made for.
  virtual Isa isa() const = 0;

  // image:     (batch, channels, height, width)
  // y:         (batch, height / stride, width / stride, outputs)
  // next_bits: y >= next_threshold, (batch, height / stride, width / stride, ceil(outputs / 8)); null where there is no
  //            next_threshold, and wherever they are not wanted
  // Thread-safe: may run on several inputs at once.
  virtual void run(const float* image, std::size_t batch, std::size_t height, std::size_t width, float* y,
                   std::uint8_t* next_bits, const Parallel& parallel) const = 0;

 protected:
  explicit ImageConv(const ImageConvShape& shape) : shape_(shape) {}
  const ImageConvShape shape_;
};

}  // namespace edgebnn
