// SPDX-License-Identifier: Apache-2.0
// libFuzzer: no bytes crash the reader of PROXY headers; what it reads it can write and read again,
// and a header does not change when bytes follow it or come one by one.
#include <cstddef>
#include <cstdint>

#include "base/expect.h"
#include "proxy_header/header.h"

using namespace proxify;
using namespace proxify::proxy_header;
using State = Parsed::State;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const Bytes bytes = std::as_bytes(std::span(data, size));
    const Parsed whole = parse(bytes);
    State last = State::incomplete;
    for (size_t i = 0; i <= std::min(size, size_max); ++i) {
        const Parsed part = parse(bytes.first(i));
        if (last != State::incomplete) expect(part.state == last, "more bytes change no judgement");
        last = part.state;
    }
    if (size >= size_max) expect(whole.state != State::incomplete, "nobody waits for ever");
    if (whole.state != State::complete) return 0;
    expect(whole.size <= size, "a header ends within its bytes");
    const std::string again = version_2(whole.header);
    expect(parse(std::as_bytes(std::span(again))).header == whole.header,
           "what is written is read");
    return 0;
}
