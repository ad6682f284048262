// Classifies pictures in binary PPM or PGM with nothing but libnetc and the standard library of C++17.
//
//     classify_ppm MODEL PICTURE [MEAN DEVIATION]
//
// MODEL is a text, an ONNX model or, by its name, a compiled model (.netc). The picture is brought to the input's size by
// averages of areas; its levels become 0..1, less the mean, divided by the deviation, of all channels. Other steps that a
// network's text states are the program's own matter.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "netc.h"

namespace {

struct Picture {
    std::size_t width, height, channels;
    std::vector<std::uint8_t> levels; // row by row, the channels of a pixel side by side
};

// A number of the header, behind white space and comments.
std::optional<std::size_t> number(std::istream &in) {
    in >> std::ws;
    while (in.peek() == '#') {
        std::string comment;
        std::getline(in, comment);
        in >> std::ws;
    }
    std::size_t value = 0;
    return in >> value ? std::optional(value) : std::nullopt;
}

Picture read(const std::string &path) {
    std::ifstream in(path, std::ios::binary);
    std::string magic(2, '\0');
    if (!in.read(magic.data(), 2) || (magic != "P5" && magic != "P6"))
        throw std::runtime_error(path + ": no binary PGM or PPM");
    const auto width = number(in), height = number(in), largest = number(in);
    const std::size_t most = 1 << 14;
    if (!width || !height || largest != 255 || *width == 0 || *height == 0 || *width > most || *height > most)
        throw std::runtime_error(path + ": not of 8 bits a channel, or of no size that makes sense");
    in.get(); // the one byte between header and levels
    Picture picture{*width, *height, magic == "P5" ? std::size_t(1) : std::size_t(3), {}};
    picture.levels.resize(picture.width * picture.height * picture.channels);
    if (!in.read(reinterpret_cast<char *>(picture.levels.data()), std::streamsize(picture.levels.size())))
        throw std::runtime_error(path + ": ends early");
    return picture;
}

// A channel of a pixel, of gray or colour as it is wanted.
double level(const Picture &picture, std::size_t y, std::size_t x, std::size_t channel, std::size_t channels) {
    const std::uint8_t *pixel = &picture.levels[(y * picture.width + x) * picture.channels];
    if (picture.channels == 3 && channels == 1)
        return 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
    return pixel[picture.channels == 1 ? 0 : channel];
}

// The share of each source pixel in a row of target pixels.
std::vector<std::vector<std::pair<std::size_t, double>>> shares(std::size_t from, std::size_t to) {
    std::vector<std::vector<std::pair<std::size_t, double>>> all(to);
    const double step = double(from) / double(to);
    for (std::size_t i = 0; i < to; i++) {
        const double begin = double(i) * step, end = begin + step;
        for (std::size_t k = std::size_t(begin); k < from && double(k) < end; k++) {
            const double share = std::min(end, double(k) + 1) - std::max(begin, double(k));
            if (share > 0)
                all[i].emplace_back(k, share / step);
        }
    }
    return all;
}

// The picture as `[channels][height][width]`.
std::vector<float> prepare(const Picture &picture, const std::size_t *shape, double mean, double deviation) {
    const std::size_t channels = shape[1], height = shape[2], width = shape[3];
    const auto rows = shares(picture.height, height), columns = shares(picture.width, width);
    std::vector<float> values;
    values.reserve(channels * height * width);
    for (std::size_t channel = 0; channel < channels; channel++)
        for (const auto &row : rows)
            for (const auto &column : columns) {
                double sum = 0;
                for (const auto &[y, down] : row)
                    for (const auto &[x, across] : column)
                        sum += down * across * level(picture, y, x, channel, channels);
                values.push_back(float((sum / 255 - mean) / deviation));
            }
    return values;
}

struct Free {
    void operator()(netc_model *model) const { netc_model_free(model); }
};
using Model = std::unique_ptr<netc_model, Free>;

void check(netc_status status) {
    if (status != NETC_OK)
        throw std::runtime_error(netc_last_error());
}

Model open(const std::string &path) {
    netc_model *model = nullptr;
    const bool compiled = path.size() > 5 && path.compare(path.size() - 5, 5, ".netc") == 0;
    check(compiled ? netc_model_open(path.c_str(), nullptr, &model)
                   : netc_model_compile(path.c_str(), nullptr, &model));
    return Model(model);
}

int classify(const std::string &network, const std::string &path, double mean, double deviation) {
    const Model model = open(network);
    netc_port input, output;
    check(netc_model_input(model.get(), 0, &input));
    check(netc_model_output(model.get(), 0, &output));
    if (input.rank != 4 || (input.shape[1] != 1 && input.shape[1] != 3) || output.rank != 2)
        throw std::runtime_error(network + ": takes no pictures, or gives no scores");
    const std::size_t shape[] = {1, input.shape[1], input.shape[2], input.shape[3]}, scores[] = {1, output.shape[1]};
    std::vector<float> image = prepare(read(path), shape, mean, deviation), logits(output.shape[1]);
    const netc_tensor in{image.data(), shape, 4, NETC_F32}, out{logits.data(), scores, 2, NETC_F32};
    check(netc_model_run(model.get(), &in, 1, &out, 1));

    std::vector<std::size_t> order(logits.size());
    std::iota(order.begin(), order.end(), std::size_t(0));
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
    double sum = 0;
    for (float logit : logits)
        sum += std::exp(double(logit - logits[order[0]]));
    for (std::size_t place = 0; place < std::min<std::size_t>(3, order.size()); place++) {
        const std::size_t index = order[place];
        const char *label = netc_model_label(model.get(), index);
        const double share = std::exp(double(logits[index] - logits[order[0]])) / sum;
        std::printf("%6.2f %%  %s\n", 100 * share, label ? label : std::to_string(index).c_str());
    }
    return 0;
}

} // namespace

int main(int argc, char **argv) {
    if (argc != 3 && argc != 5) {
        std::fprintf(stderr, "usage: %s MODEL PICTURE [MEAN DEVIATION]\n", argv[0]);
        return 2;
    }
    try {
        const double mean = argc == 5 ? std::atof(argv[3]) : 0, deviation = argc == 5 ? std::atof(argv[4]) : 1;
        return classify(argv[1], argv[2], mean, deviation != 0 ? deviation : 1);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
