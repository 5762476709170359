// SPDX-License-Identifier: Apache-2.0
#include "hello/hello.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/client_hello.h"
#include "support/proxify_process.h"

using namespace proxify;
using hello::Reader;
using State = Reader::State;
using namespace test::client_hello;
using namespace std::string_literals;

namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

/// The same however it is cut.
struct Read {
    State state;
    std::string name, protocols, why;
    bool operator==(const Read&) const = default;
};

Read read(std::string_view bytes, size_t step) {
    Reader reader;
    for (size_t at = 0; at < bytes.size(); at += step)
        reader.take(bytes_of(bytes.substr(at, step)));
    return {reader.state(), std::string(reader.name()), std::string(reader.protocols()),
            std::string(reader.why())};
}

Read read(std::string_view bytes) {
    auto whole = read(bytes, std::max<size_t>(bytes.size(), 1));
    CHECK(read(bytes, 1) == whole);
    CHECK(read(bytes, 7) == whole);
    return whole;
}

std::string capture(const std::string& name) {
    std::ifstream file(test::source_root() + "/tests/fuzz/corpus/client_hello/" + name,
                       std::ios::binary);
    REQUIRE(file);
    return {std::istreambuf_iterator(file), {}};
}

}  // namespace

TEST_CASE("the name is found in what real clients say, wherever it is cut", "[P-47]") {
    for (const auto* client :
         {"openssl_tls13", "openssl_tls12", "openssl_split_records", "curl", "python"}) {
        CAPTURE(client);
        const auto bytes = capture(client);
        for (size_t cut = 0; cut <= bytes.size(); ++cut) {
            Reader reader;
            const auto early = reader.take(bytes_of(bytes).first(cut));
            REQUIRE(early == (cut < bytes.size() ? State::incomplete : State::name));
            REQUIRE(reader.take(bytes_of(bytes).subspan(cut)) == State::name);
            REQUIRE(reader.name() == "www.example.org");
        }
        CHECK(read(bytes).name == "www.example.org");
    }
    CHECK(read(capture("openssl_tls13")).protocols == "\x02h2\x08http/1.1");
    CHECK(read(capture("curl")).protocols == "\x02h2\x08http/1.1");
    CHECK(read(capture("openssl_no_name")).state == State::no_name);
}

TEST_CASE("records may cut a hello anywhere, and hold what comes behind it", "[P-47]") {
    const auto hello = message(extension(10, vec(2, "\x00\x1d"s)) + named("www.example.org"));
    for (size_t size = 1; size <= hello.size(); ++size) {
        INFO("records of " << size);
        Reader reader;
        CHECK(reader.take(bytes_of(records(hello, size))) == State::name);
        CHECK(reader.name() == "www.example.org");
    }
    CHECK(read(records(hello + "\x02 another message")).state == State::name);
    CHECK(read(records(hello) + "early data").state == State::name);
}

TEST_CASE("extensions that nobody knows are passed over, GREASE among them", "[P-47]") {
    const auto grease = extension(0x0a0a, "") + extension(0xfafa, "\0"s);
    CHECK(read(records(message(grease + named("a.example") + grease))).name == "a.example");
    CHECK(read(records(message(grease))).state == State::no_name);
    // Names of other kinds than a host's, which nobody has defined so far.
    const auto other = number(7, 1) + vec(2, "x");
    const auto host = number(0, 1) + vec(2, "a.example");
    CHECK(read(records(message(extension(0, vec(2, other + host))))).name == "a.example");
    CHECK(read(records(message(extension(0, vec(2, other))))).state == State::no_name);
}

TEST_CASE("a hello of TLS 1.2 may have no extensions", "[P-47]") {
    const auto body =
        "\x03\x03" + std::string(32, 'r') + vec(1, "") + vec(2, "\x13\x01") + vec(1, "\0"s);
    CHECK(read(records("\x01" + vec(3, body))).state == State::no_name);
}

TEST_CASE("a hello of many records is read up to 64 KiB, and no longer one is waited for",
          "[P-47]") {
    auto padded = [](size_t size) { return message(padding(size) + named("big.example")); };
    CHECK(read(records(padded(20'000))).name == "big.example");
    CHECK(read(records(padded(20'000), 500)).name == "big.example");
    CHECK(read(records(padded(64'000))).name == "big.example");
    CHECK(read(records(padded(65'450))).why == "it is too long");
    // Each byte in a record of its own is more on the wire than in the hello.
    CHECK(read(records(padded(10'000), 1)).name == "big.example");
    CHECK(read(records(padded(11'000), 1)).why == "it is too long");
    // What a length says is believed before the bytes come.
    CHECK(read("\x16\x03\x01\x00\x04\x01\x02\x00\x00"s).why == "it is too long");
}

TEST_CASE("what is no hello is known for that by its first bytes", "[P-47]") {
    struct Row {
        std::string bytes;
        std::string_view why;
    };
    for (const auto& [bytes, why] :
         {Row{"G", "it does not begin as a handshake does"},
          Row{capture("curl_http"), "it does not begin as a handshake does"},
          Row{"\x16\x02", "it is of no version of TLS"},
          Row{"\x16\x03\x01\x00\x00"s, "a record without bytes"},
          Row{"\x16\x03\x01\x40\x01"s, "a record that is too long"},
          Row{"\x16\x03\x01\x00\x05\x02"s, "another handshake message comes first"},
          Row{"\x16\x03\x01\x00\x01\x01\x15"s, "it does not begin as a handshake does"},
          Row{"\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00"s, "a record without bytes"}}) {
        CAPTURE(bytes);
        const auto got = read(bytes);
        CHECK(got.state == State::no_hello);
        CHECK(got.why == why);
    }
    CHECK(read("").state == State::incomplete);
    CHECK(read("\x16").state == State::incomplete);
}

TEST_CASE("a hello that contradicts itself is none", "[P-47]") {
    const auto host = number(0, 1) + vec(2, "a.example");
    struct Row {
        std::string extensions;
        std::string_view why;
    };
    for (const auto& [extensions, why] :
         {Row{named("a.example") + named("b.example"), "its server name is malformed"},
          Row{extension(0, vec(2, host + host)), "its server name is malformed"},
          Row{extension(0, ""), "its server name is malformed"},
          Row{extension(0, vec(2, "")), "its server name is malformed"},
          Row{extension(0, vec(2, host) + "x"), "its server name is malformed"},
          Row{extension(0, vec(2, host.substr(0, 8))), "its server name is malformed"},
          Row{named(""), "its server name is malformed"},
          Row{named(std::string(256, 'a')), "its server name is malformed"},
          Row{named("a\0b"s), "its server name is malformed"},
          Row{named("a b"), "its server name is malformed"},
          Row{named("a\x80"), "its server name is malformed"},
          Row{extension(16, ""), "its protocols are malformed"},
          Row{extension(16, vec(2, "\0"s)), "its protocols are malformed"},
          Row{extension(16, vec(2, "\x09h2")), "its protocols are malformed"},
          Row{named("a.example") + "\0"s, "its extensions are malformed"},
          Row{"\x00\x10\x00\x05h2"s, "its extensions are malformed"}}) {
        CAPTURE(extensions);
        const auto got = read(records(message(extensions)));
        CHECK(got.state == State::no_hello);
        CHECK(got.why == why);
    }
    // A name that was read before is not believed either.
    CHECK(read(records(message(named("a.example") + extension(16, "")))).name.empty());
    CHECK(read(records(message(named(std::string(255, 'a'))))).state == State::name);

    // Every length that the message holds, wrong by one.
    const auto good = message(named("www.example.org"));
    for (size_t at : {38u, 71u, 72u, 77u, 79u, 80u}) {
        auto bad = good;
        ++bad[at];
        INFO("the byte at " << at);
        CHECK(read(records(bad)).state == State::no_hello);
    }
}

TEST_CASE("what is cut off stays incomplete, and what is scrambled never reads beyond its end",
          "[P-47]") {
    const auto good = records(message(named("www.example.org") + extension(16, vec(2, "\x02h2"))));
    for (size_t size = 0; size < good.size(); ++size)
        REQUIRE(read(good.substr(0, size), 1).state == State::incomplete);
    for (size_t at = 0; at < good.size(); ++at)
        for (int bit = 0; bit < 8; ++bit) {
            auto bad = good;
            bad[at] = static_cast<char>(bad[at] ^ 1 << bit);
            REQUIRE(read(bad, 1) == read(bad, bad.size()));
        }
}
