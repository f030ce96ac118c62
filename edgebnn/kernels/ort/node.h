// Declarations of the operators' inputs and outputs, and a node while its kernel is created. Errors are exceptions.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort/api.h"

namespace edgebnn::ort {

// An operator's input or output.
struct Argument {
  const char* name;
  ElementType type;
  Presence presence;
};

using Shape = std::vector<std::int64_t>;

inline std::string text(const Shape& shape) {
  std::string list;
  for (const std::int64_t size : shape) list += (list.empty() ? "" : ", ") + std::to_string(size);
  return "(" + list + ")";
}

// Throws the error of a status, if there is one.
inline void check(const Api& api, Status* status) {
  if (!status) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw std::runtime_error(message);
}

// A tensor's shape and values, checked against a type.
struct Tensor {
  Shape shape;
  const void* data = nullptr;

  Tensor(const Api& api, const Value* value, const Argument& argument) {
    TensorInfo* info = nullptr;
    check(api, api.GetTensorTypeAndShape(value, &info));
    const auto release = [&api](TensorInfo* held) { api.ReleaseTensorTypeAndShapeInfo(held); };
    const std::unique_ptr<TensorInfo, decltype(release)> held(info, release);
    ElementType type = kUndefined;
    check(api, api.GetTensorElementType(info, &type));
    if (type != argument.type) throw std::runtime_error(std::string(argument.name) + " has a wrong type");
    std::size_t rank = 0;
    check(api, api.GetDimensionsCount(info, &rank));
    shape.resize(rank);
    check(api, api.GetDimensions(info, shape.data(), rank));
    void* values = nullptr;
    check(api, api.GetTensorMutableData(const_cast<Value*>(value), &values));
    data = values;
  }

  const float* floats() const { return static_cast<const float*>(data); }
  const std::uint8_t* bytes() const { return static_cast<const std::uint8_t*>(data); }
};

inline void check_shape(const char* name, const Shape& found, const Shape& wanted) {
  if (found == wanted) return;
  throw std::runtime_error(std::string(name) + " has shape " + text(found) + ", wanted " + text(wanted));
}

// A node while its kernel is created. Inputs and outputs are identified by their positions.
class Node {
 public:
  Node(const Api& api, const KernelInfo* info, const Argument* inputs) : api_(api), info_(info), arguments_(inputs) {
    check(api, api.KernelInfo_GetInputCount(info, &inputs_));
    check(api, api.KernelInfo_GetOutputCount(info, &outputs_));
  }

  // Returns the name for messages: printable, and not longer than a line.
  static std::string name(const Api& api, const KernelInfo* info) {
    std::size_t size = 0;
    check(api, api.KernelInfo_GetNodeName(info, nullptr, &size));
    std::string name(size, '\0');
    check(api, api.KernelInfo_GetNodeName(info, name.data(), &size));
    name.resize(std::min<std::size_t>(std::strlen(name.c_str()), 60));
    std::replace_if(name.begin(), name.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return name;
  }

  bool has_input(std::size_t index) const { return named(api_.KernelInfo_GetInputName, index, inputs_); }
  bool has_output(std::size_t index) const { return named(api_.KernelInfo_GetOutputName, index, outputs_); }

  // Returns the value of an initializer.
  Tensor constant(std::size_t index) const {
    const Value* value = nullptr;
    int is_constant = 0;
    check(api_, api_.KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
    const Argument& argument = arguments_[index];
    if (!is_constant || !value) throw std::runtime_error(std::string(argument.name) + " must be an initializer");
    return Tensor(api_, value, argument);
  }

  // Returns an initializer of one float for each of `count` channels.
  Tensor channels(std::size_t index, std::int64_t count) const {
    Tensor tensor = constant(index);
    check_shape(arguments_[index].name, tensor.shape, {count});
    return tensor;
  }

  int stride() const {
    std::int64_t value = 0;
    if (Status* status = api_.KernelInfoGetAttribute_int64(info_, "stride", &value)) {
      api_.ReleaseStatus(status);
      throw std::runtime_error("attribute stride is missing, or no integer");
    }
    if (value != 1 && value != 2) throw std::runtime_error("stride is " + std::to_string(value) + ", wanted 1 or 2");
    return static_cast<int>(value);
  }

  // Returns the index of an attribute's text in `words`.
  std::size_t choice(const char* attribute, const std::vector<std::string>& words) const {
    char buffer[16];  // a longer text is none of the words
    std::size_t size = sizeof buffer;
    Status* status = api_.KernelInfoGetAttribute_string(info_, attribute, buffer, &size);
    if (!status) {
      const auto found = std::find(words.begin(), words.end(), std::string(buffer, size - 1));
      if (found != words.end()) return static_cast<std::size_t>(found - words.begin());
    } else {
      api_.ReleaseStatus(status);
    }
    std::string message = "attribute " + std::string(attribute) + " must be";
    for (const std::string& word : words) message += (word == words.front() ? " " : " or ") + word;
    throw std::runtime_error(message);
  }

 private:
  template <class GetName>
  bool named(GetName get_name, std::size_t index, std::size_t count) const {
    std::size_t size = 0;
    if (index < count) check(api_, get_name(info_, index, nullptr, &size));
    return size > 1;
  }

  const Api& api_;
  const KernelInfo* info_;
  const Argument* arguments_;
  std::size_t inputs_ = 0, outputs_ = 0;
};

}  // namespace edgebnn::ort
