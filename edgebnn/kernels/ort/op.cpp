// Registers the operators of the domain ai.edgebnn with ONNX Runtime.
#include "ort/op.h"

#include <cstdio>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "core/c_api.h"

namespace edgebnn::ort {
namespace {

constexpr const char* kDomain = "ai.edgebnn";

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

// The domain with its operators, kept until the library is unloaded: sessions refer to it. One for each copy of
// ONNX Runtime that may live in a process.
OpDomain* domain(const Api& api, std::uint32_t version) {
  // Without destructors: a session that is released while the process ends still reads its operators.
  static const Op plain[] = {unit_op(kApiVersion), image_conv_op(kApiVersion)};
  static const Op in_place[] = {unit_op(kInPlaceVersion), image_conv_op(kInPlaceVersion)};
  static std::mutex mutex;
  static std::map<const Api*, std::unique_ptr<OpDomain, Release>> domains;
  const std::lock_guard<std::mutex> lock(mutex);
  auto found = domains.find(&api);
  if (found == domains.end()) {
    OpDomain* made = nullptr;
    check(api, api.CreateCustomOpDomain(kDomain, &made));
    std::unique_ptr<OpDomain, Release> held(made, Release{&api});
    for (const Op& op : version == kInPlaceVersion ? in_place : plain) check(api, api.CustomOpDomain_Add(made, &op));
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
  return guarded(*api, "edgebnn", kDomain,
                 [&] { check(*api, api->AddCustomOpDomain(options, domain(*api, version))); });
}
