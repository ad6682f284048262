// Classifies pictures in binary PPM or PGM with nothing but libnetc and the standard library of C++17.
//
//     classify_ppm MODEL PICTURE
//
// MODEL is a text, an ONNX model or, by its name, a compiled model (.netc). libnetc makes the input of the picture's levels, as the
// network's text says: size, crop, mean and deviation.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
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

int classify(const std::string &network, const std::string &path) {
    const Model model = open(network);
    netc_port input, output;
    check(netc_model_input(model.get(), 0, &input));
    check(netc_model_output(model.get(), 0, &output));
    if (input.rank != 4 || (input.shape[1] != 1 && input.shape[1] != 3) || output.rank != 2)
        throw std::runtime_error(network + ": takes no pictures, or gives no scores");
    const std::size_t shape[] = {1, input.shape[1], input.shape[2], input.shape[3]}, scores[] = {1, output.shape[1]};
    std::vector<float> image(shape[1] * shape[2] * shape[3]), logits(output.shape[1]);
    const netc_tensor in{image.data(), shape, 4, NETC_F32}, out{logits.data(), scores, 2, NETC_F32};
    const Picture picture = read(path);
    const netc_picture levels{picture.levels.data(), picture.height, picture.width, picture.channels, 0};
    check(netc_model_preprocess(model.get(), 0, &levels, &in));
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
    if (argc != 3) {
        std::fprintf(stderr, "usage: %s MODEL PICTURE\n", argv[0]);
        return 2;
    }
    try {
        return classify(argv[1], argv[2]);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
