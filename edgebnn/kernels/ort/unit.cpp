// The operator BinaryUnit for ONNX Runtime; `kInputs` lists its inputs.
#include <memory>
#include <stdexcept>
#include <string>

#include "core/isa.h"
#include "ort/op.h"
#include "core/unit.h"

namespace edgebnn::ort {
namespace {

enum Input : std::size_t { kX, kWeight, kThreshold, kScale, kBias, kSlope, kBits, kNextThreshold, kInputCount };
enum Output : std::size_t { kY, kNextBits, kPooled, kOutputCount };

// An input must be an initializer, unless the list says otherwise.
constexpr Argument kInputs[kInputCount] = {
    {"x", kFloat, kRequired},               // (N, H, W, inputs); computed
    {"weight", kUint8, kRequired},          // (outputs, kernel, kernel, ceil(inputs / 8))
    {"threshold", kFloat, kRequired},       // (inputs)
    {"scale", kFloat, kRequired},           // (outputs)
    {"bias", kFloat, kRequired},            // (outputs)
    {"slope", kFloat, kRequired},           // (outputs)
    {"bits", kUint8, kOptional},            // (N, H, W, ceil(inputs / 8)), those of x; computed
    {"next_threshold", kFloat, kOptional},  // (outputs), of the unit that follows
};
constexpr Argument kOutputs[kOutputCount] = {
    {"y", kFloat, kOptional},          // (N, H / stride, W / stride, outputs); must be there if pooled is not
    {"next_bits", kUint8, kOptional},  // (N, H / stride, W / stride, ceil(outputs / 8)); given if next_threshold is
    {"pooled", kFloat, kOptional},     // (N, H / stride / 2, W / stride / 2, outputs): 2x2 averages of y
};

// The unit's shape, from the shapes of its weight and threshold.
UnitShape read_shape(const Node& node, const Shape& weight, const Shape& threshold) {
  if (threshold.size() != 1 || threshold[0] < 1 || threshold[0] > kMaxChannels) {
    throw std::runtime_error("threshold has shape " + text(threshold) + ", wanted (inputs), 1 to " +
                             std::to_string(kMaxChannels));
  }
  const std::int64_t inputs = threshold[0], bytes = (inputs + 7) / 8;
  if (weight.size() != 4 || weight[0] < 1 || weight[0] > kMaxChannels || weight[1] != weight[2] ||
      (weight[1] != 1 && weight[1] != 3) || weight[3] != bytes) {
    throw std::runtime_error("weight has shape " + text(weight) + ", wanted (outputs, kernel, kernel, " +
                             std::to_string(bytes) + ") for " + std::to_string(inputs) + " inputs, kernel 1 or 3");
  }
  UnitShape shape;
  shape.inputs = static_cast<int>(inputs);
  shape.outputs = static_cast<int>(weight[0]);
  shape.kernel = static_cast<int>(weight[1]);
  shape.stride = node.stride();
  shape.padding = node.choice("padding", {"zero", "one"}) == 0 ? Padding::kZero : Padding::kOne;
  constexpr Shortcut kShortcuts[] = {Shortcut::kIdentity, Shortcut::kPool, Shortcut::kRepeat, Shortcut::kNone,
                                     Shortcut::kPooled};
  shape.shortcut = kShortcuts[node.choice("shortcut", {"identity", "pool", "repeat", "none", "pooled"})];
  if (const char* problem = Unit::shape_error(shape)) {
    throw std::runtime_error(std::string(problem) + "; found " + std::to_string(inputs) + " inputs, " +
                             std::to_string(weight[0]) + " outputs, stride " + std::to_string(shape.stride));
  }
  return shape;
}

// Refuses weights with bits after the last input, because they would be counted.
void check_tail(const UnitShape& shape, const Tensor& weight) {
  const std::size_t bytes = static_cast<std::size_t>(weight.shape[3]);
  const std::size_t rows = static_cast<std::size_t>(shape.outputs * shape.kernel * shape.kernel);
  if (shape.inputs % 8 == 0) return;
  for (std::size_t row = 1; row <= rows; ++row) {
    if (weight.bytes()[row * bytes - 1] >> (shape.inputs % 8)) {
      throw std::runtime_error("weight has bits beyond the last of " + std::to_string(shape.inputs) + " inputs");
    }
  }
}

// One node, ready to run.
class UnitKernel {
 public:
  static constexpr Operator kOperator = {"BinaryUnit", 1, 2, kInputs, kInputCount, kOutputs, kOutputCount};

  explicit UnitKernel(const Node& node) {
    const Isa* isa = chosen_isa();
    if (!isa) throw std::runtime_error(isa_error());
    const Tensor weight = node.constant(kWeight), threshold = node.constant(kThreshold);
    shape_ = read_shape(node, weight.shape, threshold.shape);
    check_tail(shape_, weight);
    const Tensor scale = node.channels(kScale, shape_.outputs), bias = node.channels(kBias, shape_.outputs);
    const Tensor slope = node.channels(kSlope, shape_.outputs);
    writes_y_ = node.has_output(kY);
    writes_pooled_ = node.has_output(kPooled);
    if (!writes_y_ && !writes_pooled_) throw std::runtime_error("y is missing, and so is pooled");
    if (shape_.shortcut == Shortcut::kPooled && !node.has_input(kBits)) {
      throw std::runtime_error("bits are missing, which the pooled shortcut needs");
    }
    writes_bits_ = node.has_input(kNextThreshold);
    if (writes_bits_ != node.has_output(kNextBits)) {
      throw std::runtime_error("next_threshold and next_bits go together");
    }
    UnitConstants constants{weight.bytes(), threshold.floats(), scale.floats(), bias.floats(), slope.floats(), nullptr};
    if (writes_bits_) constants.next_threshold = node.channels(kNextThreshold, shape_.outputs).floats();
    unit_ = Unit::make(shape_, constants, *isa);
  }

  void run(Run& run) const {
    const Tensor x = run.tensor(run.input(kX), kX);
    if (x.shape.size() != 4 || x.shape[3] != shape_.inputs) {
      throw std::runtime_error("x has shape " + text(x.shape) + ", wanted (N, H, W, " + std::to_string(shape_.inputs) +
                               ")");
    }
    const std::int64_t batch = x.shape[0], times = shape_.shortcut == Shortcut::kPooled ? 2 : 1;
    const char* problem = size_error(1, batch, x.shape[1], x.shape[2]);  // before sides are doubled
    const std::int64_t height = problem ? 0 : times * x.shape[1], width = problem ? 0 : times * x.shape[2];
    if (!problem) problem = unit_->input_error(batch, height, width, writes_pooled_);
    if (problem) throw std::runtime_error(std::string(problem) + "; x has shape " + text(x.shape));
    UnitArrays arrays;
    arrays.x = x.floats();
    const Value* given = run.input(kBits);
    if (given || shape_.shortcut == Shortcut::kPooled) {
      const Tensor bits = run.tensor(given, kBits);
      check_shape("bits", bits.shape, {batch, height, width, (shape_.inputs + 7) / 8});
      arrays.bits = bits.bytes();
    }
    Shape sizes{batch, height / shape_.stride, width / shape_.stride, shape_.outputs};
    if (writes_y_) arrays.y = static_cast<float*>(run.output(kY, sizes));
    if (writes_pooled_) {
      arrays.pooled = static_cast<float*>(run.output(kPooled, {batch, sizes[1] / 2, sizes[2] / 2, shape_.outputs}));
    }
    sizes[3] = (shape_.outputs + 7) / 8;
    if (writes_bits_) arrays.next_bits = static_cast<std::uint8_t*>(run.output(kNextBits, sizes));
    unit_->run(arrays, static_cast<std::size_t>(batch), static_cast<std::size_t>(height),
               static_cast<std::size_t>(width), run.parallel());
  }

 private:
  UnitShape shape_;
  bool writes_y_ = false, writes_pooled_ = false, writes_bits_ = false;
  std::unique_ptr<Unit> unit_;
};

}  // namespace

Op unit_op(std::uint32_t version) {
  Op op = make_op<UnitKernel>(version);
  // y may be written over x if both have one size, which ONNX Runtime checks. The bits of an image are computed before
  // any of its outputs is written, and a shortcut reads each value just before its place is written. The caches then
  // hold half as much.
  op.GetMayInplace = [](int** inputs, int** outputs) -> std::size_t {
    static int x = kX, y = kY;
    *inputs = &x;
    *outputs = &y;
    return 1;
  };
  op.ReleaseMayInplace = [](int*, int*) {};
  return op;
}

}  // namespace edgebnn::ort
