// The kernels for callers without C++ or ONNX Runtime: tests and benchmarks reach them through ctypes.
#pragma once

#include <cstddef>
#include <cstdint>

#define EDGEBNN_EXPORT extern "C" __attribute__((visibility("default")))

// Returns the name of the chosen path ("avx2"), or null with the reason in edgebnn_error().
EDGEBNN_EXPORT const char* edgebnn_isa();

// Returns the names of all paths built and available here, separated by blanks.
EDGEBNN_EXPORT const char* edgebnn_isas();

// Returns the error of the last call on this thread that returned null or -1.
EDGEBNN_EXPORT const char* edgebnn_error();

// Creates a unit for the path `isa` (null: the chosen path). Returns null on an error. padding: "zero" | "one".
// shortcut: "identity" | "pool" | "repeat" | "none" | "pooled". Arrays are as in unit.h. next_threshold may be null.
EDGEBNN_EXPORT void* edgebnn_unit_create(const char* isa, int inputs, int outputs, int kernel, int stride,
                                         const char* padding, const char* shortcut, const std::uint8_t* weight,
                                         const float* threshold, const float* scale, const float* bias,
                                         const float* slope, const float* next_threshold);

// Returns the name of the path that a unit was created for.
EDGEBNN_EXPORT const char* edgebnn_unit_isa(const void* unit);

// Runs a unit on `threads` threads of its own. UnitArrays in unit.h describes the arrays. Not null: x, bits for the
// pooled shortcut, and y or pooled. next_bits must be null for a unit made without next_threshold. y may be x
// if both have one shape. No other output may overlap an input. Returns 0, or -1 on an error.
EDGEBNN_EXPORT int edgebnn_unit_run(const void* unit, const float* x, const std::uint8_t* bits, std::int64_t batch,
                                    std::int64_t height, std::int64_t width, float* y, float* pooled,
                                    std::uint8_t* next_bits, int threads);

EDGEBNN_EXPORT void edgebnn_unit_destroy(void* unit);

// The same for the convolution of images (image_conv.h). next_threshold may be null.
EDGEBNN_EXPORT void* edgebnn_image_conv_create(const char* isa, int channels, int outputs, int stride,
                                               const float* weight, const float* bias, const float* next_threshold);
EDGEBNN_EXPORT const char* edgebnn_image_conv_isa(const void* conv);
EDGEBNN_EXPORT int edgebnn_image_conv_run(const void* conv, const float* image, std::int64_t batch, std::int64_t height,
                                          std::int64_t width, float* y, std::uint8_t* next_bits, int threads);
EDGEBNN_EXPORT void edgebnn_image_conv_destroy(void* conv);

// Returns the ceiling of kernels that count bits on the path `isa`: the binary multiply-accumulates per second of XOR,
// popcount and add on registers alone. -1 if the path is not available.
EDGEBNN_EXPORT double edgebnn_popcount_ceiling(const char* isa);
