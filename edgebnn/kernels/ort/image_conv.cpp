// The operator ImageConv for ONNX Runtime; `kInputs` lists its inputs.
#include <memory>
#include <stdexcept>
#include <string>

#include "core/image_conv.h"
#include "core/isa.h"
#include "ort/op.h"

namespace edgebnn::ort {
namespace {

enum Input : std::size_t { kImage, kWeight, kBias, kNextThreshold, kInputCount };
enum Output : std::size_t { kY, kNextBits, kOutputCount };

// All but the image must be initializers.
constexpr Argument kInputs[kInputCount] = {
    {"image", kFloat, kRequired},           // (N, channels, H, W); computed
    {"weight", kFloat, kRequired},          // (outputs, channels, 3, 3)
    {"bias", kFloat, kRequired},            // (outputs)
    {"next_threshold", kFloat, kOptional},  // (outputs), of the unit that follows
};
constexpr Argument kOutputs[kOutputCount] = {
    {"y", kFloat, kRequired},          // (N, H / stride, W / stride, outputs)
    {"next_bits", kUint8, kOptional},  // (N, H / stride, W / stride, ceil(outputs / 8)); given if next_threshold is
};

ImageConvShape read_shape(const Node& node, const Shape& weight) {
  const auto fits = [](std::int64_t channels) { return channels >= 1 && channels <= kMaxChannels; };
  if (weight.size() != 4 || !fits(weight[0]) || !fits(weight[1]) || weight[2] != 3 || weight[3] != 3) {
    throw std::runtime_error("weight has shape " + text(weight) + ", wanted (outputs, channels, 3, 3), each 1 to " +
                             std::to_string(kMaxChannels));
  }
  const ImageConvShape shape{static_cast<int>(weight[1]), static_cast<int>(weight[0]), node.stride()};
  if (const char* problem = ImageConv::shape_error(shape)) throw std::runtime_error(problem);
  return shape;
}

// One node, ready to run.
class ImageConvKernel {
 public:
  static constexpr Operator kOperator = {"ImageConv", 2, 2, kInputs, kInputCount, kOutputs, kOutputCount};

  explicit ImageConvKernel(const Node& node) {
    const Isa* isa = chosen_isa();
    if (!isa) throw std::runtime_error(isa_error());
    const Tensor weight = node.constant(kWeight);
    shape_ = read_shape(node, weight.shape);
    ImageConvConstants constants{weight.floats(), node.channels(kBias, shape_.outputs).floats(), nullptr};
    const bool compares = node.has_input(kNextThreshold);
    if (compares != node.has_output(kNextBits)) throw std::runtime_error("next_threshold and next_bits go together");
    if (compares) constants.next_threshold = node.channels(kNextThreshold, shape_.outputs).floats();
    conv_ = ImageConv::make(shape_, constants, *isa);
  }

  void run(Run& run) const {
    const Tensor image = run.tensor(run.input(kImage), kImage);
    if (image.shape.size() != 4 || image.shape[1] != shape_.channels) {
      throw std::runtime_error("image has shape " + text(image.shape) + ", wanted (N, " +
                               std::to_string(shape_.channels) + ", H, W)");
    }
    const std::int64_t batch = image.shape[0], height = image.shape[2], width = image.shape[3];
    if (const char* problem = conv_->input_error(batch, height, width)) {
      throw std::runtime_error(std::string(problem) + "; image has shape " + text(image.shape));
    }
    Shape sizes{batch, height / shape_.stride, width / shape_.stride, shape_.outputs};
    float* y = static_cast<float*>(run.output(kY, sizes));
    sizes[3] = (shape_.outputs + 7) / 8;
    std::uint8_t* next_bits = conv_->writes_bits() ? static_cast<std::uint8_t*>(run.output(kNextBits, sizes)) : nullptr;
    conv_->run(image.floats(), static_cast<std::size_t>(batch), static_cast<std::size_t>(height),
               static_cast<std::size_t>(width), y, next_bits, run.parallel());
  }

 private:
  ImageConvShape shape_;
  std::unique_ptr<ImageConv> conv_;
};

}  // namespace

Op image_conv_op(std::uint32_t version) { return make_op<ImageConvKernel>(version); }

}  // namespace edgebnn::ort
