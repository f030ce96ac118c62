// The operator BinaryUnit (domain ai.edgebnn, version 1) for ONNX Runtime; `kInputs` lists its inputs.
//
// Constants are read once, when a session is created, and kept in the kernels' own order. Whatever does not fit is
// refused there with a message that names the node and the input; what only a run shows is refused in the run. No
// exception leaves this file: each entry turns them into a status.
//
// There is no function for shape inference: ONNX Runtime 1.17 dereferences a null pointer before it calls one for a
// node that leaves an optional input out before one it gives, as a first unit does (`bits`).
//
// ONNX Runtime takes a node of a newer domain version for the newest it knows. `edgebnn.runtime` refuses such files;
// for those who use the library alone, what follows this operator and differs must take another name.
#include <atomic>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>

#include "c_api.h"
#include "isa.h"
#include "ort_api.h"
#include "ort_node.h"
#include "unit.h"

namespace edgebnn::ort {
namespace {

constexpr const char* kDomain = "ai.edgebnn";

// Runs `body`; gives a status with `name` before the message if it throws.
template <class Body>
Status* guarded(const Api& api, const std::string& name, Body body) noexcept {
  try {
    try {
      body();
      return nullptr;
    } catch (const std::exception& error) {
      return api.CreateStatus(kInvalidArgument, ("BinaryUnit '" + name + "': " + error.what()).c_str());
    }
  } catch (...) {
    return api.CreateStatus(kFail, "BinaryUnit failed");
  }
}

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
  if (const char* complaint = Unit::complaint(shape)) {
    throw std::runtime_error(std::string(complaint) + "; found " + std::to_string(inputs) + " inputs, " +
                             std::to_string(weight[0]) + " outputs, stride " + std::to_string(shape.stride));
  }
  return shape;
}

// Bits beyond the last input would be counted.
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
class Kernel {
 public:
  Kernel(const Api& api, const KernelInfo* info) : api_(api), name_(Node::name(api, info)) {
    const Isa* isa = chosen_isa();
    if (!isa) throw std::runtime_error(isa_complaint());
    const Node node(api, info);
    const Tensor weight = node.constant(kWeight), threshold = node.constant(kThreshold);
    shape_ = read_shape(node, weight.shape, threshold.shape);
    check_tail(shape_, weight);
    const auto channels = [&](Input input) {
      Tensor tensor = node.constant(input);
      check_shape(kInputs[input].name, tensor.shape, {shape_.outputs});
      return tensor;
    };
    const Tensor scale = channels(kScale), bias = channels(kBias), slope = channels(kSlope);
    writes_y_ = node.has(kY);
    writes_pooled_ = node.has(kPooled);
    if (!writes_y_ && !writes_pooled_) throw std::runtime_error("y is missing, and so is pooled");
    if (shape_.shortcut == Shortcut::kPooled && !node.has(kBits)) {
      throw std::runtime_error("bits are missing, which the pooled shortcut needs");
    }
    writes_bits_ = node.has(kNextThreshold);
    if (writes_bits_ != node.has(kNextBits)) throw std::runtime_error("next_threshold and next_bits go together");
    UnitConstants constants{weight.bytes(),  threshold.floats(), scale.floats(),
                            bias.floats(),   slope.floats(),     nullptr};
    if (!writes_bits_) {
      unit_ = Unit::make(shape_, constants, *isa);
      return;
    }
    const Tensor next = channels(kNextThreshold);
    constants.next_threshold = next.floats();
    unit_ = Unit::make(shape_, constants, *isa);
  }

  const Api& api() const { return api_; }
  const std::string& name() const { return name_; }

  void run(KernelContext* context) const {
    const Value* value = input(context, kX);
    if (!value) throw std::runtime_error("x is missing");
    const Tensor x(api_, value, kInputs[kX]);
    if (x.shape.size() != 4 || x.shape[3] != shape_.inputs) {
      throw std::runtime_error("x has shape " + text(x.shape) + ", wanted (N, H, W, " + std::to_string(shape_.inputs) +
                               ")");
    }
    const std::int64_t scale = shape_.shortcut == Shortcut::kPooled ? 2 : 1;
    const std::int64_t batch = x.shape[0], height = scale * x.shape[1], width = scale * x.shape[2];
    if (const char* complaint = unit_->complaint(batch, height, width, writes_pooled_)) {
      throw std::runtime_error(std::string(complaint) + "; x has shape " + text(x.shape));
    }
    UnitArrays arrays;
    arrays.x = x.floats();
    if (const Value* given = input(context, kBits)) {
      const Tensor tensor(api_, given, kInputs[kBits]);
      check_shape("bits", tensor.shape, {batch, height, width, (shape_.inputs + 7) / 8});
      arrays.bits = tensor.bytes();
    } else if (shape_.shortcut == Shortcut::kPooled) {
      throw std::runtime_error("bits are missing");
    }
    Shape sizes{batch, height / shape_.stride, width / shape_.stride, shape_.outputs};
    if (writes_y_) arrays.y = static_cast<float*>(output(context, kY, sizes));
    if (writes_pooled_) {
      const Shape halves{batch, sizes[1] / 2, sizes[2] / 2, sizes[3]};
      arrays.pooled = static_cast<float*>(output(context, kPooled, halves));
    }
    sizes[3] = (shape_.outputs + 7) / 8;
    if (writes_bits_) arrays.next_bits = static_cast<std::uint8_t*>(output(context, kNextBits, sizes));
    Pool pool{api_, context};
    unit_->run(arrays, static_cast<std::size_t>(batch), static_cast<std::size_t>(height),
               static_cast<std::size_t>(width), {&pool, run_on_pool});
  }

 private:
  // The threads of the session.
  struct Pool {
    const Api& api;
    const KernelContext* context;
  };

  // A task may run on a thread of ONNX Runtime, which ends the process if an exception reaches it.
  struct Tasks {
    Parallel::Task task;
    void* state;
    std::atomic<bool> failed{false};

    static void run(void* tasks, std::size_t index) noexcept {
      Tasks& self = *static_cast<Tasks*>(tasks);
      try {
        self.task(self.state, index);
      } catch (...) {
        self.failed = true;
      }
    }
  };

  static void run_on_pool(void* context, std::size_t count, Parallel::Task task, void* state) {
    const Pool& pool = *static_cast<Pool*>(context);
    Tasks tasks{task, state};
    check(pool.api, pool.api.KernelContext_ParallelFor(pool.context, Tasks::run, count, 0, &tasks));
    if (tasks.failed) throw std::runtime_error("a task failed; there may be too little memory");
  }

  // Null where it is absent.
  const Value* input(const KernelContext* context, Input index) const {
    std::size_t count = 0;
    check(api_, api_.KernelContext_GetInputCount(context, &count));
    const Value* value = nullptr;
    if (index < count) check(api_, api_.KernelContext_GetInput(context, index, &value));
    return value;
  }

  void* output(KernelContext* context, Output index, const Shape& sizes) const {
    Value* value = nullptr;
    check(api_, api_.KernelContext_GetOutput(context, index, sizes.data(), sizes.size(), &value));
    if (!value) throw std::runtime_error(std::string(kOutputs[index].name) + " is missing");
    void* data = nullptr;
    check(api_, api_.GetTensorMutableData(value, &data));
    return data;
  }

  const Api& api_;
  const std::string name_;
  UnitShape shape_;
  bool writes_y_ = false, writes_pooled_ = false, writes_bits_ = false;
  std::unique_ptr<Unit> unit_;
};

Status* create_kernel(const Op*, const Api* api, const KernelInfo* info, void** kernel) {
  std::string name = "?";
  return guarded(*api, name, [&] {
    name = Node::name(*api, info);
    *kernel = new Kernel(*api, info);
  });
}

Status* run_kernel(void* kernel, KernelContext* context) {
  const Kernel& self = *static_cast<Kernel*>(kernel);
  return guarded(self.api(), self.name(), [&] { self.run(context); });
}

// `version`: of the interface, as ONNX Runtime has it; an operator that claims a later one is refused.
Op make_op(std::uint32_t version) {
  Op op{};
  op.version = version;
  op.GetName = [](const Op*) { return "BinaryUnit"; };
  op.GetExecutionProviderType = [](const Op*) -> const char* { return nullptr; };  // the processor
  op.GetInputTypeCount = [](const Op*) -> std::size_t { return kInputCount; };
  op.GetInputType = [](const Op*, std::size_t index) { return kInputs[index].type; };
  op.GetInputCharacteristic = [](const Op*, std::size_t index) { return kInputs[index].presence; };
  op.GetInputMemoryType = [](const Op*, std::size_t) { return 0; };
  op.GetOutputTypeCount = [](const Op*) -> std::size_t { return kOutputCount; };
  op.GetOutputType = [](const Op*, std::size_t index) { return kOutputs[index].type; };
  op.GetOutputCharacteristic = [](const Op*, std::size_t index) { return kOutputs[index].presence; };
  op.GetStartVersion = [](const Op*) { return 1; };
  op.GetEndVersion = [](const Op*) { return 1; };
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = run_kernel;
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  // y may lie where x lies if they are of one size, which ONNX Runtime sees to: an image is compared before anything of
  // it is written, and what a shortcut adds is read where it is then written. It halves what the caches must hold.
  op.GetMayInplace = [](int** inputs, int** outputs) -> std::size_t {
    static int x = kX, y = kY;
    *inputs = &x;
    *outputs = &y;
    return 1;
  };
  op.ReleaseMayInplace = [](int*, int*) {};
  return op;
}

struct Release {
  const Api* api;
  void operator()(OpDomain* domain) const { api->ReleaseCustomOpDomain(domain); }
};

// The version of the interface that this ONNX Runtime has, as far as an `Op` tells them apart. To ask for an interface
// that is not there prints a line.
std::uint32_t interface_version(const ApiBase& base) {
  unsigned major = 0, minor = 0;
  const bool read = std::sscanf(base.GetVersionString(), "%u.%u", &major, &minor) == 2;
  return read && (major > 1 || minor >= kInPlaceVersion) ? kInPlaceVersion : kApiVersion;
}

// The domain with its operator, kept until the library is unloaded: sessions refer to it. One for each copy of
// ONNX Runtime that may live in a process.
OpDomain* domain(const Api& api, std::uint32_t version) {
  // Without destructors: a session that is released while the process ends still reads its operator.
  static const Op plain = make_op(kApiVersion), in_place = make_op(kInPlaceVersion);
  static std::mutex mutex;
  static std::map<const Api*, std::unique_ptr<OpDomain, Release>> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = domains.find(&api);
  if (found == domains.end()) {
    OpDomain* made = nullptr;
    check(api, api.CreateCustomOpDomain(kDomain, &made));
    std::unique_ptr<OpDomain, Release> held(made, Release{&api});
    check(api, api.CustomOpDomain_Add(made, version == kInPlaceVersion ? &in_place : &plain));
    found = domains.emplace(&api, std::move(held)).first;
  }
  return found->second.get();
}

}  // namespace
}  // namespace edgebnn::ort

// What `SessionOptions.register_custom_ops_library` looks for.
EDGEBNN_EXPORT edgebnn::ort::Status* RegisterCustomOps(edgebnn::ort::SessionOptions* options,
                                                       const edgebnn::ort::ApiBase* base) {
  using namespace edgebnn::ort;
  const Api* api = base->GetApi(kApiVersion);
  if (!api) return base->GetApi(1)->CreateStatus(kFail, "edgebnn needs onnxruntime 1.17 or newer");
  const std::uint32_t version = interface_version(*base);
  return guarded(*api, "", [&] { check(*api, api->AddCustomOpDomain(options, domain(*api, version))); });
}
