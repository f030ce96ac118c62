// Code that the operators for ONNX Runtime share: a node while it runs, and the table that declares an operator.
//
// Constants are read once, when a session is created, and packed. Wrong sizes and attributes are refused then, with a
// message that names the node and the input. An input of a wrong size is refused in the run. No exception leaves an
// operator: `guarded` turns it into a status.
//
// There are no functions for shape inference. ONNX Runtime 1.17 dereferences a null pointer before it calls one, if a
// node leaves out an optional input and has a later one. A unit that compares by itself is such a node (it has no
// `bits`).
//
// ONNX Runtime takes a node of a newer domain version for the newest version that it knows. `edgebnn.runtime` refuses
// such files. Programs that use the library alone do not, so a later operator that differs must have another name.
#pragma once

#include <atomic>
#include <exception>
#include <stdexcept>
#include <string>

#include "ort/api.h"
#include "ort/node.h"
#include "core/unit.h"

namespace edgebnn::ort {

// An operator, and the versions of its domain that have it.
struct Operator {
  const char* name;
  int first_version, last_version;
  const Argument* inputs;
  std::size_t input_count;
  const Argument* outputs;
  std::size_t output_count;
};

// The operators, declared for ONNX Runtime's version of the interface. It refuses an operator that claims a later one.
Op unit_op(std::uint32_t version);        // ort/unit.cpp
Op image_conv_op(std::uint32_t version);  // ort/image_conv.cpp

// Runs `body`. If it throws, returns a status whose message begins with the operator's and the node's name.
template <class Body>
Status* guarded(const Api& api, const char* operator_name, const std::string& node, Body body) noexcept {
  try {
    try {
      body();
      return nullptr;
    } catch (const std::exception& error) {
      const std::string message = std::string(operator_name) + " '" + node + "': " + error.what();
      return api.CreateStatus(kInvalidArgument, message.c_str());
    }
  } catch (...) {
    return api.CreateStatus(kFail, "an operator of edgebnn failed");
  }
}

// A node while it runs.
class Run {
 public:
  Run(const Api& api, KernelContext* context, const Operator& declared)
      : api_(api), context_(context), declared_(declared) {}

  // Returns null if the input is absent.
  const Value* input(std::size_t index) const {
    std::size_t count = 0;
    check(api_, api_.KernelContext_GetInputCount(context_, &count));
    const Value* value = nullptr;
    if (index < count) check(api_, api_.KernelContext_GetInput(context_, index, &value));
    return value;
  }

  // Returns the tensor of a value, and checks its type against the declared input.
  Tensor tensor(const Value* value, std::size_t index) const {
    const Argument& argument = declared_.inputs[index];
    if (!value) throw std::runtime_error(std::string(argument.name) + " is missing");
    return Tensor(api_, value, argument);
  }

  // Allocates an output of that shape.
  void* output(std::size_t index, const Shape& sizes) const {
    Value* value = nullptr;
    check(api_, api_.KernelContext_GetOutput(context_, index, sizes.data(), sizes.size(), &value));
    if (!value) throw std::runtime_error(std::string(declared_.outputs[index].name) + " is missing");
    void* data = nullptr;
    check(api_, api_.GetTensorMutableData(value, &data));
    return data;
  }

  // The threads of the session. Valid as long as this Run.
  Parallel parallel() { return {this, run_on_pool}; }

 private:
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

  static void run_on_pool(void* run, std::size_t count, Parallel::Task task, void* state) {
    const Run& self = *static_cast<Run*>(run);
    Tasks tasks{task, state};
    check(self.api_, self.api_.KernelContext_ParallelFor(self.context_, Tasks::run, count, 0, &tasks));
    if (tasks.failed) throw std::runtime_error("a task failed; there may be too little memory");
  }

  const Api& api_;
  KernelContext* context_;
  const Operator& declared_;
};

// A node's kernel, with what its errors need. A `Kernel` is constructed from a Node, runs with a Run, and declares
// `kOperator`.
template <class Kernel>
struct NodeKernel {
  const Api& api;
  const std::string name;
  const Kernel kernel;

  NodeKernel(const Api& given, const KernelInfo* info)
      : api(given), name(Node::name(given, info)), kernel(Node(given, info, Kernel::kOperator.inputs)) {}
};

template <class Kernel>
Status* create_kernel(const Op*, const Api* api, const KernelInfo* info, void** kernel) {
  std::string name = "?";
  return guarded(*api, Kernel::kOperator.name, name, [&] {
    name = Node::name(*api, info);
    *kernel = new NodeKernel<Kernel>(*api, info);
  });
}

template <class Kernel>
Status* run_kernel(void* kernel, KernelContext* context) {
  const NodeKernel<Kernel>& self = *static_cast<NodeKernel<Kernel>*>(kernel);
  return guarded(self.api, Kernel::kOperator.name, self.name, [&] {
    Run run(self.api, context, Kernel::kOperator);
    self.kernel.run(run);
  });
}

template <class Kernel>
Op make_op(std::uint32_t version) {
  Op op{};
  op.version = version;
  op.GetName = [](const Op*) { return Kernel::kOperator.name; };
  op.GetExecutionProviderType = [](const Op*) -> const char* { return nullptr; };  // the processor
  op.GetInputTypeCount = [](const Op*) -> std::size_t { return Kernel::kOperator.input_count; };
  op.GetInputType = [](const Op*, std::size_t index) { return Kernel::kOperator.inputs[index].type; };
  op.GetInputCharacteristic = [](const Op*, std::size_t index) { return Kernel::kOperator.inputs[index].presence; };
  op.GetInputMemoryType = [](const Op*, std::size_t) { return 0; };
  op.GetOutputTypeCount = [](const Op*) -> std::size_t { return Kernel::kOperator.output_count; };
  op.GetOutputType = [](const Op*, std::size_t index) { return Kernel::kOperator.outputs[index].type; };
  op.GetOutputCharacteristic = [](const Op*, std::size_t index) { return Kernel::kOperator.outputs[index].presence; };
  op.GetStartVersion = [](const Op*) { return Kernel::kOperator.first_version; };
  op.GetEndVersion = [](const Op*) { return Kernel::kOperator.last_version; };
  op.CreateKernelV2 = create_kernel<Kernel>;
  op.KernelComputeV2 = run_kernel<Kernel>;
  op.KernelDestroy = [](void* kernel) { delete static_cast<NodeKernel<Kernel>*>(kernel); };
  return op;
}

}  // namespace edgebnn::ort
