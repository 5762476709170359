// SPDX-License-Identifier: Apache-2.0
// libFuzzer: the element replace, given its bytes in any pieces, makes the same of them as the
// plain model in support/naive.h, keeps back no more than it must, and lets that go when it is due.
// The input: how long `find` is (1 to 16), how long `with` is (0 to 15), both of them, and then
// pieces, each behind a number: below 64 it is the length, from 64 on a multiple of 16 is. One with
// its upper bit set lets what is kept back become due first.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/expect.h"
#include "filter/makers.h"
#include "support/carrier.h"
#include "support/naive.h"

using namespace proxify;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

std::string_view take(std::string_view& input, size_t count) {
    const std::string_view taken = input.substr(0, count);
    input.remove_prefix(taken.size());
    return taken;
}
size_t take_number(std::string_view& input) {
    const std::string_view byte = take(input, 1);
    return byte.empty() ? 0 : static_cast<unsigned char>(byte[0]);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::string_view input(reinterpret_cast<const char*>(data), size);
    const size_t find_size = take_number(input) % 16 + 1, with_size = take_number(input) % 16;
    config::Element replace{.type = config::ElementType::replace};
    replace.find = take(input, find_size);
    replace.with = take(input, with_size);
    if (replace.find.empty()) return 0;

    static test::Kept log;
    const auto maker = filter::make_replace(replace);
    std::vector<filter::Link> links;
    links.push_back({.element = maker->make({.log = log}),
                     .name = "replace",
                     .to_target = filter::everything,
                     .to_client = filter::everything});
    test::Carrier session(std::make_unique<filter::Chain>(4096, std::move(links), nullptr));
    std::string certain, open;  // what must be out, and what has come since then
    while (!input.empty()) {
        const size_t number = take_number(input);
        if (number >= 128) {
            const auto [out, kept] = test::replace_naively(open, replace.find, replace.with);
            certain += out + kept;
            open.clear();
            session.let_pass(replace.hold, Direction::to_target);
        }
        const size_t length = number % 128;
        const std::string_view piece = take(input, length < 64 ? length : (length - 64) * 16);
        if (!piece.empty()) session.give(Direction::to_target, piece);
        open += piece;
        const auto [out, kept] = test::replace_naively(open, replace.find, replace.with);
        expect(session.got(Direction::to_target) == certain + out,
               "what is certain is out, and nothing else");
    }
    session.end(Direction::to_target);
    const auto [out, kept] = test::replace_naively(open, replace.find, replace.with);
    expect(session.got(Direction::to_target) == certain + out + kept, "nothing is lost");
    return 0;
}
