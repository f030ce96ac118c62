// The part of ONNX Runtime's C interface that a custom operator needs.
//
// ONNX Runtime provides a table of function pointers. New versions only append to it, so the place of a published
// function never changes. The Python package has no headers. The places and signatures below follow
// include/onnxruntime/core/session/onnxruntime_c_api.h, version 1.17, the first with `KernelContext_ParallelFor`. The
// last four entries of `Op` are of version 1.18.
// Names are ONNX Runtime's, so that they can be looked up there. Unused functions are skipped by their number.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgebnn::ort {

constexpr std::uint32_t kApiVersion = 17;
constexpr std::uint32_t kInPlaceVersion = 18;  // from which on `Op` has GetMayInplace

// Only ever held by pointer.
struct Status;  // null: all is well
struct Value;
struct TensorInfo;
struct KernelInfo;     // a node while its kernel is made
struct KernelContext;  // a node while it runs
struct OpDomain;
struct SessionOptions;
struct Op;

enum ErrorCode : int { kFail = 1, kInvalidArgument = 2, kInvalidGraph = 10 };
enum ElementType : int { kUndefined = 0, kFloat = 1, kUint8 = 2 };
enum Presence : int { kRequired = 0, kOptional = 1 };

struct Api {
  Status* (*CreateStatus)(ErrorCode code, const char* message);
  void* unused_1[1];
  const char* (*GetErrorMessage)(const Status* status);
  void* unused_3[23];
  Status* (*CreateCustomOpDomain)(const char* domain, OpDomain** out);
  Status* (*CustomOpDomain_Add)(OpDomain* domain, const Op* op);
  Status* (*AddCustomOpDomain)(SessionOptions* options, OpDomain* domain);
  void* unused_29[22];
  Status* (*GetTensorMutableData)(Value* value, void** out);
  void* unused_52[8];
  Status* (*GetTensorElementType)(const TensorInfo* info, ElementType* out);
  Status* (*GetDimensionsCount)(const TensorInfo* info, std::size_t* out);
  Status* (*GetDimensions)(const TensorInfo* info, std::int64_t* sizes, std::size_t count);
  void* unused_63[2];
  Status* (*GetTensorTypeAndShape)(const Value* value, TensorInfo** out);
  void* unused_66[20];
  Status* (*KernelInfoGetAttribute_int64)(const KernelInfo* info, const char* name, std::int64_t* out);
  // Writes the text and a final 0; `size` is the room for both, then their size. Too little room is an error.
  Status* (*KernelInfoGetAttribute_string)(const KernelInfo* info, const char* name, char* out, std::size_t* size);
  Status* (*KernelContext_GetInputCount)(const KernelContext* context, std::size_t* out);
  Status* (*KernelContext_GetOutputCount)(const KernelContext* context, std::size_t* out);
  Status* (*KernelContext_GetInput)(const KernelContext* context, std::size_t index, const Value** out);
  Status* (*KernelContext_GetOutput)(KernelContext* context, std::size_t index, const std::int64_t* sizes,
                                     std::size_t count, Value** out);
  void* unused_92[1];
  void (*ReleaseStatus)(Status* status);
  void* unused_94[5];
  void (*ReleaseTensorTypeAndShapeInfo)(TensorInfo* info);
  void* unused_100[1];
  void (*ReleaseCustomOpDomain)(OpDomain* domain);
  void* unused_102[128];
  Status* (*KernelInfo_GetInputCount)(const KernelInfo* info, std::size_t* out);
  Status* (*KernelInfo_GetOutputCount)(const KernelInfo* info, std::size_t* out);
  // As KernelInfoGetAttribute_string; without `out`, only the size. An absent input or output has the name "".
  Status* (*KernelInfo_GetInputName)(const KernelInfo* info, std::size_t index, char* out, std::size_t* size);
  Status* (*KernelInfo_GetOutputName)(const KernelInfo* info, std::size_t index, char* out, std::size_t* size);
  void* unused_234[10];
  Status* (*KernelInfo_GetNodeName)(const KernelInfo* info, char* out, std::size_t* size);
  void* unused_245[4];
  Status* (*KernelInfoGetConstantInput_tensor)(const KernelInfo* info, std::size_t index, int* is_constant,
                                               const Value** out);
  void* unused_250[24];
  // task(state, i) for every i < total; with 0 batches, threads fetch one i after the other.
  Status* (*KernelContext_ParallelFor)(const KernelContext* context, void (*task)(void* state, std::size_t i),
                                       std::size_t total, std::size_t batches, void* state);
};

// A mistake in the counts above would call a wrong function.
#define EDGEBNN_AT(place, entry) static_assert(offsetof(Api, entry) == (place) * sizeof(void*), #entry)
EDGEBNN_AT(2, GetErrorMessage);
EDGEBNN_AT(26, CreateCustomOpDomain);
EDGEBNN_AT(51, GetTensorMutableData);
EDGEBNN_AT(60, GetTensorElementType);
EDGEBNN_AT(65, GetTensorTypeAndShape);
EDGEBNN_AT(86, KernelInfoGetAttribute_int64);
EDGEBNN_AT(93, ReleaseStatus);
EDGEBNN_AT(99, ReleaseTensorTypeAndShapeInfo);
EDGEBNN_AT(101, ReleaseCustomOpDomain);
EDGEBNN_AT(230, KernelInfo_GetInputCount);
EDGEBNN_AT(244, KernelInfo_GetNodeName);
EDGEBNN_AT(249, KernelInfoGetConstantInput_tensor);
EDGEBNN_AT(274, KernelContext_ParallelFor);
#undef EDGEBNN_AT

struct ApiBase {
  const Api* (*GetApi)(std::uint32_t version);  // null if this ONNX Runtime is older
  const char* (*GetVersionString)();
};

// What ONNX Runtime asks of an operator. It reads as far as `version` of the interface went.
struct Op {
  std::uint32_t version;
  void* (*CreateKernel)(const Op*, const Api*, const KernelInfo*);  // not asked for where there is a V2
  const char* (*GetName)(const Op*);
  const char* (*GetExecutionProviderType)(const Op*);
  ElementType (*GetInputType)(const Op*, std::size_t index);
  std::size_t (*GetInputTypeCount)(const Op*);
  ElementType (*GetOutputType)(const Op*, std::size_t index);
  std::size_t (*GetOutputTypeCount)(const Op*);
  void (*KernelCompute)(void* kernel, KernelContext*);  // as CreateKernel
  void (*KernelDestroy)(void* kernel);
  Presence (*GetInputCharacteristic)(const Op*, std::size_t index);
  Presence (*GetOutputCharacteristic)(const Op*, std::size_t index);
  int (*GetInputMemoryType)(const Op*, std::size_t index);  // 0: the provider's own
  int (*GetVariadicInputMinArity)(const Op*);
  int (*GetVariadicInputHomogeneity)(const Op*);
  int (*GetVariadicOutputMinArity)(const Op*);
  int (*GetVariadicOutputHomogeneity)(const Op*);
  Status* (*CreateKernelV2)(const Op*, const Api*, const KernelInfo*, void** kernel);
  Status* (*KernelComputeV2)(void* kernel, KernelContext*);
  Status* (*InferOutputShapeFn)(const Op*, void* context);
  int (*GetStartVersion)(const Op*);
  int (*GetEndVersion)(const Op*);
  // Returns two arrays of one length: inputs, and for each the output that may be written over it.
  std::size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  std::size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};

}  // namespace edgebnn::ort
