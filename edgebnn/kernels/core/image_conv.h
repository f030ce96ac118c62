// The float convolution of the image at the start of a network: 3x3, zero padding of one pixel.
//
//     y = bias[o];  y = w * x + y, fused, for every weight w and its image value x, by channel, row and column
//
// This is the order of the weights in memory. Fused: each w * x + y is rounded once (IEEE 754-2008, fusedMultiplyAdd).
// Padding zeros are multiplied and added like any other value. So every path computes the same bits as
// edgebnn/graph/reference.py. The image is NCHW, as applications have it. The output is NHWC, and its bits are as in
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

  // Returns the problem with a shape, or null. `make` requires a shape without a problem.
  static const char* shape_error(const ImageConvShape& shape);

  // Returns the problem with images of this size, or null.
  const char* input_error(std::int64_t batch, std::int64_t height, std::int64_t width) const;

  // Copies and rearranges the constants for an instruction set, which must be available.
  static std::unique_ptr<ImageConv> make(const ImageConvShape& shape, const ImageConvConstants& constants, Isa isa);

  const ImageConvShape& shape() const { return shape_; }

  virtual bool writes_bits() const = 0;

  // The instruction set that the convolution was created for.
  virtual Isa isa() const = 0;

  // image:     (batch, channels, height, width)
  // y:         (batch, height / stride, width / stride, outputs)
  // next_bits: y >= next_threshold, (batch, height / stride, width / stride, ceil(outputs / 8)); must be null without
  //            next_threshold, and may be null otherwise
  // Thread-safe: may run on several inputs at once.
  virtual void run(const float* image, std::size_t batch, std::size_t height, std::size_t width, float* y,
                   std::uint8_t* next_bits, const Parallel& parallel) const = 0;

 protected:
  explicit ImageConv(const ImageConvShape& shape) : shape_(shape) {}
  const ImageConvShape shape_;
};

}  // namespace edgebnn
