// An image file (PPM, or BMP of 24 bits) -> what the network takes, number for number as in training with Pillow.
#pragma once

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "network.hpp"

struct Image {
    int width, height, channels;
    std::vector<std::uint8_t> pixels;  // rows from the top, channels last, in RGB or grey
};

inline Image read_ppm(const std::string& bytes) {
    std::size_t at = 2;
    int numbers[3];  // width, height, largest value
    for (int& number : numbers) {
        while (at < bytes.size() && (std::isspace(static_cast<unsigned char>(bytes[at])) || bytes[at] == '#'))
            at = bytes[at] == '#' ? std::min(bytes.find('\n', at), bytes.size()) : at + 1;
        for (number = 0; at < bytes.size() && bytes[at] >= '0' && bytes[at] <= '9' && number < 1 << 20; ++at)
            number = number * 10 + (bytes[at] - '0');
    }
    const int channels = bytes[1] == '6' ? 3 : 1;
    const std::size_t count = std::size_t(numbers[0]) * numbers[1] * channels;
    if (numbers[2] != 255 || !count || bytes.size() < ++at + count)
        throw std::runtime_error("a damaged PPM or PGM file");
    return {numbers[0], numbers[1], channels, {bytes.begin() + at, bytes.begin() + at + count}};
}

inline Image read_bmp(const std::string& bytes) {
    const auto number = [&](std::size_t at) {
        std::int32_t value = 0;
        if (at + 4 <= bytes.size()) std::memcpy(&value, bytes.data() + at, 4);
        return value;
    };
    const int width = number(18), rows = number(22), height = std::abs(rows);
    const std::size_t start = std::uint32_t(number(10)), stride = (std::size_t(std::max(width, 0)) * 3 + 3) / 4 * 4;
    if (width < 1 || height < 1 || number(28) != 24 || bytes.size() < start + stride * height)
        throw std::runtime_error("a damaged BMP file, or one of other than 24 bits");
    Image image{width, height, 3, std::vector<std::uint8_t>(std::size_t(width) * height * 3)};
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < 3; ++c)  // BGR, from the bottom where the height is above 0
                image.pixels[(std::size_t(y) * width + x) * 3 + c] =
                    bytes[start + stride * (rows > 0 ? height - 1 - y : y) + x * 3 + 2 - c];
    return image;
}

// In the colours that the network takes; grey as Pillow weighs them, in fixed point of 16 bits.
inline Image recoloured(const Image& image) {
    if (image.channels == network::channels) return image;
    Image result{image.width, image.height, network::channels, {}};
    for (std::size_t i = 0; i < image.pixels.size(); i += image.channels) {
        const std::uint8_t* of = &image.pixels[i];
        if (image.channels == 1)
            result.pixels.insert(result.pixels.end(), network::channels, *of);
        else
            result.pixels.push_back(std::uint8_t((of[0] * 19595 + of[1] * 38470 + of[2] * 7471 + 0x8000) >> 16));
    }
    return result;
}

inline Image read_image(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("there is no file '" + path + "'");
    const std::string bytes{std::istreambuf_iterator<char>(file), {}}, kind = bytes.substr(0, 2);
    if (kind != "P6" && kind != "P5" && kind != "BM") throw std::runtime_error("'" + path + "' is neither PPM nor BMP");
    return recoloured(kind == "BM" ? read_bmp(bytes) : read_ppm(bytes));
}

// One axis, with a triangle as wide as a pixel of the result, in fixed point of 22 bits: Pillow's BILINEAR.
inline Image resized_axis(const Image& image, int size, bool horizontal) {
    const int length = horizontal ? image.width : image.height, lines = horizontal ? image.height : image.width;
    if (size == length) return image;
    const int width = horizontal ? size : image.width, height = horizontal ? image.height : size, n = image.channels;
    Image result{width, height, n, std::vector<std::uint8_t>(std::size_t(width) * height * n)};
    const std::size_t along = horizontal ? n : std::size_t(image.width) * n;
    const std::size_t from_line = horizontal ? std::size_t(image.width) * n : n;
    const std::size_t to_line = horizontal ? std::size_t(width) * n : n;
    const double scale = double(length) / size, support = std::max(scale, 1.0);
    for (int at = 0; at < size; ++at) {
        const double center = (at + 0.5) * scale;
        const int first = std::max(int(center - support + 0.5), 0);
        const int last = std::min(int(center + support + 0.5), length);
        std::vector<double> weights;
        double sum = 0;
        for (int i = first; i < last; ++i) {
            weights.push_back(std::max(1.0 - std::abs((i - center + 0.5) * (1.0 / support)), 0.0));
            sum += weights.back();
        }
        std::vector<int> fixed;
        for (double weight : weights) fixed.push_back(int(0.5 + weight / sum * (1 << 22)));
        for (int line = 0; line < lines; ++line)
            for (int c = 0; c < n; ++c) {
                int value = 1 << 21;
                for (int i = first; i < last; ++i)
                    value += image.pixels[line * from_line + i * along + c] * fixed[i - first];
                result.pixels[line * to_line + at * along + c] = std::uint8_t(std::clamp(value >> 22, 0, 255));
            }
    }
    return result;
}

inline Image resized(const Image& image, int width, int height) {
    return resized_axis(resized_axis(image, width, true), height, false);
}

// The shorter side resized, the centre cropped.
inline Image fitted(Image image) {
    using namespace network;
    if (!resize && !crop_height && image.width == width && image.height == height) return image;
    const int h = crop_height ? crop_height : height, w = crop_width ? crop_width : width;
    const double shorter = resize ? resize : std::nearbyint(std::min(h, w) * 8 / 7.0);
    const double needed = std::max(double(w) / image.width, double(h) / image.height);
    const double scale = std::max(shorter / std::min(image.width, image.height), needed);
    image = resized(image, int(std::nearbyint(image.width * scale)), int(std::nearbyint(image.height * scale)));
    const int left = (image.width - w) / 2, top = (image.height - h) / 2;
    Image cropped{w, h, image.channels, {}};
    for (int y = 0; y < h; ++y) {
        const auto row = image.pixels.begin() + (std::size_t(top + y) * image.width + left) * image.channels;
        cropped.pixels.insert(cropped.pixels.end(), row, row + std::size_t(w) * image.channels);
    }
    return resized(cropped, width, height);
}

// uint8 as the file takes it, or (pixel / 255 - mean) / deviation, channels first.
template <typename Number>
std::vector<Number> tensor(const Image& image) {
    using namespace network;
    std::vector<Number> values;
    values.reserve(image.pixels.size());
    const std::size_t plane = std::size_t(image.width) * image.height;
    for (std::size_t i = 0; i < image.pixels.size(); ++i) {
        const int c = int(channels_last ? i % channels : i / plane);
        const std::size_t pixel = channels_last ? i / channels : i % plane;
        const std::uint8_t value = image.pixels[pixel * channels + (bgr && !takes_pixels ? channels - 1 - c : c)];
        values.push_back(takes_pixels ? Number(value) : Number((float(value) / 255.0f - mean[c]) / deviation[c]));
    }
    return values;
}
