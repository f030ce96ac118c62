// Classifies an image with a packed ONNX file from C++, through ONNX Runtime's own API.
//
//     run_packed libedgebnn.so MODEL.onnx IMAGE.ppm
//
// libedgebnn.so holds the operators of packed files. This prints its path:
//     python -c "from edgebnn import runtime; print(runtime.library_path())"
// IMAGE.ppm is a binary PPM (P6) whose sides are the model's resolution. ImageMagick writes it:
//     convert photo.jpg -resize 224x224^ -gravity center -extent 224x224 image.ppm
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

// The normalisation that the file states: (pixel / 255 - mean) / std, per channel.
struct Normalisation {
  std::vector<float> mean, std;
};

// Returns the numbers of `"key": [a, b, c]` in a JSON text. A program that has a JSON library uses that instead.
std::vector<float> numbers(const std::string& json, const std::string& key) {
  const size_t found = json.find("\"" + key + "\": [");
  if (found == std::string::npos) throw std::runtime_error("the model's metadata has no " + key);
  const char* text = json.c_str() + json.find('[', found);
  std::vector<float> values;
  do {
    char* end = nullptr;
    values.push_back(std::strtof(text + 1, &end));
    text = end;
  } while (*text == ',');
  return values;
}

Normalisation read_normalisation(const Ort::Session& session) {
  Ort::AllocatorWithDefaultOptions allocator;
  const auto json = session.GetModelMetadata().LookupCustomMetadataMapAllocated("edgebnn", allocator);
  if (!json) throw std::runtime_error("the model has no edgebnn metadata; export it with edgebnn");
  return {numbers(json.get(), "mean"), numbers(json.get(), "std")};
}

// Reads a PPM of the given side into (3, side, side), normalised.
std::vector<float> read_image(const char* path, int64_t side, const Normalisation& normalisation) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, largest = 0;
  file >> magic >> width >> height >> largest;
  if (!file || magic != "P6" || width != side || height != side || largest != 255) {
    throw std::runtime_error(std::string(path) + " is not a binary PPM of " + std::to_string(side) + " by " +
                             std::to_string(side) + " pixels");
  }
  file.get();  // one white space ends the header
  std::vector<uint8_t> pixels(3 * side * side);
  if (!file.read(reinterpret_cast<char*>(pixels.data()), static_cast<std::streamsize>(pixels.size()))) {
    throw std::runtime_error(std::string(path) + " ends before its last pixel");
  }
  std::vector<float> image(pixels.size());
  const int64_t area = side * side;
  for (int64_t channel = 0; channel < 3; ++channel) {
    for (int64_t pixel = 0; pixel < area; ++pixel) {
      const float value = static_cast<float>(pixels[3 * pixel + channel]) / 255.0f;
      image[channel * area + pixel] = (value - normalisation.mean[channel]) / normalisation.std[channel];
    }
  }
  return image;
}

void run(const char* library, const char* model, const char* path) {
  const Ort::Env environment;
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  options.RegisterCustomOpsLibrary(library);
  Ort::Session session(environment, model, options);

  // The input is (batch, 3, side, side). The batch may be free.
  const std::vector<int64_t> declared = session.GetInputTypeInfo(0).GetTensorTypeAndShapeInfo().GetShape();
  const int64_t side = declared.at(3);
  std::vector<float> image = read_image(path, side, read_normalisation(session));

  const int64_t shape[] = {1, 3, side, side};
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const Ort::Value input = Ort::Value::CreateTensor<float>(memory, image.data(), image.size(), shape, 4);
  Ort::AllocatorWithDefaultOptions allocator;
  const auto input_name = session.GetInputNameAllocated(0, allocator);
  const auto output_name = session.GetOutputNameAllocated(0, allocator);
  const char* inputs[] = {input_name.get()};
  const char* outputs[] = {output_name.get()};
  const std::vector<Ort::Value> results = session.Run(Ort::RunOptions{}, inputs, &input, 1, outputs, 1);

  const float* logits = results[0].GetTensorData<float>();
  const size_t classes = results[0].GetTensorTypeAndShapeInfo().GetElementCount();
  const size_t best = static_cast<size_t>(std::max_element(logits, logits + classes) - logits);
  std::printf("class %zu, logit %.4f of %zu classes\n", best, static_cast<double>(logits[best]), classes);
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: run_packed libedgebnn.so MODEL.onnx IMAGE.ppm\n");
    return 2;
  }
  try {
    run(arguments[1], arguments[2], arguments[3]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
