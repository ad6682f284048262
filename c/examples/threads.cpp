// One model, two threads: each runs it on images of its own, and both get what one alone gets.
//
//     c++ -std=c++17 threads.cpp $(pkg-config --cflags --libs netc) -pthread && ./a.out models/digits/digits.net

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>
#include <vector>

#include "netc.h"

namespace {

void check(netc_status status) {
    if (status != NETC_OK) {
        throw std::runtime_error(netc_last_error());
    }
}

struct Free {
    void operator()(netc_model *model) const { netc_model_free(model); }
};
using Model = std::unique_ptr<netc_model, Free>;

Model compile(const char *path) {
    netc_compile_options options{};
    options.run.threads = 1;
    netc_model *model = nullptr;
    check(netc_model_compile(path, &options, &model));
    return Model(model);
}

std::vector<float> run(const netc_model *model, float level) {
    netc_port input, output;
    check(netc_model_input(model, 0, &input));
    check(netc_model_output(model, 0, &output));
    auto elements = [](const netc_port &port) {
        std::size_t count = 1;
        for (std::size_t i = 0; i < port.rank; i++) {
            count *= port.shape[i];
        }
        return count;
    };
    std::vector<float> image(elements(input), level), scores(elements(output));
    netc_tensor in{image.data(), input.shape, input.rank, NETC_F32};
    netc_tensor out{scores.data(), output.shape, output.rank, NETC_F32};
    check(netc_model_run(model, &in, 1, &out, 1));
    return scores;
}

}  // namespace

int main(int argc, char **argv) try {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s network.net\n", argv[0]);
        return 2;
    }
    const Model model = compile(argv[1]);
    const auto dark = run(model.get(), 0.0f), bright = run(model.get(), 1.0f);
    bool same[2] = {true, true};
    auto work = [&](int which) {
        for (int i = 0; i < 100; i++) {
            same[which] = same[which] && run(model.get(), static_cast<float>(which)) == (which ? bright : dark);
        }
    };
    std::thread first(work, 0), second(work, 1);
    first.join();
    second.join();
    std::puts(same[0] && same[1] ? "two threads agree" : "two threads differ");
    return same[0] && same[1] ? 0 : 1;
} catch (const std::exception &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
}
