// A binary unit on packed bits: the interface of the kernels.
//
//     bit = x >= threshold[c]                                  (a NaN makes 0, which stands for -1)
//     acc = binary convolution of the bits with the weights    (1x1 or 3x3, stride 1 or 2, padding 0 or +1)
//     z   = acc * scale[o] + bias[o] + shortcut(x)              (none: nothing is added)
//     y   = z >= 0 ? z : slope[o] * z
//
// Floats are computed in this order in float32, without fused multiply-adds. So every path computes the same bits as
// edgebnn/graph/reference.py. Activations are NHWC. Packed bits are bytes: bit c % 8 of byte c / 8 belongs to channel
// c. 1 stands for +1, and the bits after the last channel are 0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace edgebnn {

enum class Isa { kScalar, kAvx2, kAvx512, kNeon };
enum class Padding { kZero, kOne };
// kPooled: the unit reads the 2x2 average of its input, and the bits of the input before averaging.
enum class Shortcut { kIdentity, kPool, kRepeat, kNone, kPooled };

constexpr int kMaxChannels = 1 << 14;
constexpr int kMaxTerms = (1 << 15) - 1;  // of one accumulator, kernel * kernel * inputs: 16 bits hold every sum

struct UnitShape {
  int inputs = 0;   // channels of x
  int outputs = 0;  // identity, pool, pooled: inputs; repeat: 2 * inputs; none: any
  int kernel = 0;   // 1 or 3
  int stride = 0;   // 1; 2 with the pool and the pooled shortcut; either with none
  Padding padding = Padding::kZero;
  Shortcut shortcut = Shortcut::kIdentity;
};

struct UnitConstants {
  const std::uint8_t* weight = nullptr;   // (outputs, kernel, kernel, ceil(inputs / 8)) packed bits
  const float* threshold = nullptr;       // (inputs)
  const float* scale = nullptr;           // (outputs)
  const float* bias = nullptr;            // (outputs)
  const float* slope = nullptr;           // (outputs)
  const float* next_threshold = nullptr;  // (outputs), of the unit that follows; or null
};

// Runs task(state, i) once for every i in [0, count), in any order, on any threads.
struct Parallel {
  using Task = void (*)(void* state, std::size_t index);
  void* context = nullptr;
  void (*run)(void* context, std::size_t count, Task task, void* state) = nullptr;
};

// Returns the problem with maps of this size, or null.
const char* size_error(int stride, std::int64_t batch, std::int64_t height, std::int64_t width);

// The arrays that a unit reads and writes, one image after the other. A unit writes y, the averages of y, or both.
struct UnitArrays {
  const float* x = nullptr;            // (batch, height, width, inputs); pooled: (batch, height / 2, width / 2, inputs)
  const std::uint8_t* bits = nullptr;  // of x, (batch, height, width, ceil(inputs / 8)); if null, x is compared
  float* y = nullptr;                  // (batch, height / stride, width / stride, outputs); or null
  // The 2x2 average of y, ((y00 + y01) + y10) + y11) * 0.25, of half its height and width; or null.
  float* pooled = nullptr;
  // y >= next_threshold, (batch, height / stride, width / stride, ceil(outputs / 8)); or null.
  std::uint8_t* next_bits = nullptr;
};

class Unit {
 public:
  virtual ~Unit() = default;

  // Returns the problem with a shape, or null. `make` requires a shape without a problem.
  static const char* shape_error(const UnitShape& shape);

  // Returns the problem with an input of this size, or null. `pooled` says whether y's average is computed.
  const char* input_error(std::int64_t batch, std::int64_t height, std::int64_t width, bool pooled) const;

  virtual bool writes_bits() const = 0;

  // Copies and rearranges the constants for an instruction set, which must be available (isa.h).
  static std::unique_ptr<Unit> make(const UnitShape& shape, const UnitConstants& constants, Isa isa);

  const UnitShape& shape() const { return shape_; }

  // The instruction set that the unit was created for.
  virtual Isa isa() const = 0;

  // The pooled shortcut requires `bits`. `next_bits` must be null for a unit without next_threshold (`writes_bits`). y
  // may be x if both have one shape. No other output may overlap an input. Thread-safe: may run on several inputs at
  // once.
  virtual void run(const UnitArrays& arrays, std::size_t batch, std::size_t height, std::size_t width,
                   const Parallel& parallel) const = 0;

 protected:
  explicit Unit(const UnitShape& shape) : shape_(shape) {}
  const UnitShape shape_;
};

}  // namespace edgebnn
