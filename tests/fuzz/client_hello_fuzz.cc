// SPDX-License-Identifier: Apache-2.0
// libFuzzer: what is read from a client's first bytes does not depend on how they are cut. The last
// byte of the input says where.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/expect.h"
#include "hello/hello.h"

using namespace proxify;
using hello::Reader;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

static void feed(Reader& reader, const uint8_t* data, size_t size, size_t step) {
    for (size_t at = 0; at < size; at += step)
        reader.take({reinterpret_cast<const std::byte*>(data) + at, std::min(step, size - at)});
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Reader whole, cut;
    feed(whole, data, size, std::max<size_t>(size, 1));
    feed(cut, data, size, size == 0 ? 1 : data[size - 1] % 64u + 1);
    expect(whole.state() == cut.state(), "a cut changes nothing");
    expect(whole.name() == cut.name() && whole.protocols() == cut.protocols(),
           "a cut changes no word");
    expect(whole.why() == cut.why(), "a cut changes no reason");
    expect((whole.state() == Reader::State::name) == !whole.name().empty(),
           "there is a name when it says so");
    expect(whole.name().size() <= 255, "a name has a bound");
    expect(size <= hello::bytes_max || whole.state() != Reader::State::incomplete, "reading ends");
    return 0;
}
