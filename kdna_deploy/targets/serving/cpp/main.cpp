// classify IMAGE...: the classes of images, with their probabilities. What the network takes is in network.hpp.
#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <type_traits>

#include "image.hpp"
#include "processor.hpp"

using Number = std::conditional_t<network::takes_pixels, std::uint8_t, float>;

static std::vector<std::string> read_labels(const std::filesystem::path& path) {
    std::vector<std::string> names;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) names.push_back(line);
    return names;
}

static std::vector<double> probabilities(const float* answers, std::size_t count) {
    std::vector<double> found(answers, answers + count);
    const double sum = std::accumulate(found.begin(), found.end(), 0.0);
    const double least = *std::min_element(found.begin(), found.end());
    if (network::answers_probabilities || (least >= 0 && std::abs(sum - 1) < 1e-3)) return found;
    const double largest = *std::max_element(found.begin(), found.end());
    for (double& value : found) value = std::exp(value - largest);
    const double total = std::accumulate(found.begin(), found.end(), 0.0);
    for (double& value : found) value /= total;
    return found;
}

static void print(const std::vector<Ort::Value>& outputs, const std::vector<std::string>& names) {
    const std::size_t count = outputs[0].GetTensorTypeAndShapeInfo().GetElementCount();
    const std::vector<double> found = probabilities(outputs[0].GetTensorData<float>(), count);
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return found[a] > found[b]; });
    for (std::size_t place = 0; place < std::min<std::size_t>(count, 5); ++place) {
        const std::size_t at = order[place];
        const std::size_t label = outputs.size() > 1 ? std::size_t(outputs[1].GetTensorData<std::int64_t>()[at]) : at;
        const std::string name = label < names.size() ? names[label] : "class " + std::to_string(label);
        std::printf("%.6f  %s\n", found[at], name.c_str());
    }
}

int main(int count, char** arguments) try {
    if (count < 2) return std::fprintf(stderr, "usage: classify IMAGE.ppm|IMAGE.bmp ...\n"), 2;
    const std::filesystem::path folder = network::folder;
    const std::vector<std::string> labels = read_labels(folder / "labels.txt");
#ifdef _WIN32  // or every session is reported over the network
    if (!std::getenv("ORT_DISABLE_TELEMETRY")) _putenv_s("ORT_DISABLE_TELEMETRY", "1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
#endif
    Ort::Env env(ORT_LOGGING_LEVEL_WARNING, "classify");
    Ort::SessionOptions options;  // SetIntraOpNumThreads(1) where many processes share a machine
    if (int8_saturates(instruction_sets("/proc/cpuinfo"))) options.AddConfigEntry("session.x64quantprecision", "1");
    Ort::Session session(env, (folder / "model.onnx").c_str(), options);
    Ort::AllocatorWithDefaultOptions allocator;
    std::vector<Ort::AllocatedStringPtr> held;
    held.push_back(session.GetInputNameAllocated(0, allocator));
    for (std::size_t i = 0; i < session.GetOutputCount(); ++i)
        held.push_back(session.GetOutputNameAllocated(i, allocator));
    std::vector<const char*> names;
    for (const auto& name : held) names.push_back(name.get());
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    for (int i = 1; i < count; ++i) {
        std::vector<Number> values = tensor<Number>(fitted(read_image(arguments[i])));
        std::array<std::int64_t, 4> shape = network::shape;
        const Ort::Value image =
            Ort::Value::CreateTensor<Number>(memory, values.data(), values.size(), shape.data(), shape.size());
        const Ort::RunOptions plain{nullptr};
        print(session.Run(plain, names.data(), &image, 1, names.data() + 1, names.size() - 1), labels);
    }
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
