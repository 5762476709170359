// SPDX-License-Identifier: Apache-2.0
#include "telemetry/log.h"

#include "support/catch.h"
#include "support/json.h"

using namespace proxify;
using namespace proxify::telemetry;
using proxify::test::parse_json_object;

static SessionRecord record() {
    return {.id = 7,
            .service = std::make_shared<const std::string>("web"),
            .client = *Address::parse("198.51.100.7:51522"),
            .original_dst = *Address::parse("[2001:db8::1]:443"),
            .target = *Address::parse("203.0.113.4:8443"),
            .to_target = 812,
            .to_client = 49357,
            .duration = 2100ms,
            .queued = 600ms,
            .tried = 1,
            .ending = {.party = Party::target,
                       .stage = Stage::connect,
                       .reason = "refused",
                       .error = ECONNREFUSED}};
}

static const WallTime moment{std::chrono::seconds(1'700'000'000) + 203ms};

TEST_CASE("a session is one line of text, aligned with what operators of HAProxy know") {
    auto line = render(Format::text, moment, record());
    CHECK(line.substr(12) ==
          " info  session 7 service=web client=198.51.100.7:51522 original_dst=[2001:db8::1]:443 "
          "target=203.0.113.4:8443 to_target=812B to_client=48.2KiB duration=2.10s queued=600.0ms "
          "tried=1 "
          "ending=TC refused: Connection refused");
}

TEST_CASE("a session is one object of JSON") {
    CHECK(
        render(Format::json, moment, record()) ==
        R"({"time":"2023-11-14T22:13:20.203Z","level":"info","event":"session","id":7,"service":"web",)"
        R"("client":"198.51.100.7:51522","original_dst":"[2001:db8::1]:443","target":"203.0.113.4:8443",)"
        R"("to_target":812,"to_client":49357,"duration_ms":2100.000,"queued_ms":600.000,"tried":1,"ending":"TC",)"
        R"("reason":"refused: Connection refused"})");
}

TEST_CASE("where there is a cache a session says what it did", "[P-49]") {
    auto cached = record();
    cached.cache = "hit";
    CHECK(render(Format::text, moment, cached).find(" tried=1 cache=hit ending=TC ") !=
          std::string::npos);
    CHECK(render(Format::json, moment, cached).find(R"("tried":1,"cache":"hit","ending":"TC")") !=
          std::string::npos);
}

TEST_CASE("a session says through which proxy its client came") {
    auto carried = record();
    carried.via = Address::parse("198.51.100.9:40000");
    CHECK(render(Format::text, moment, carried)
              .contains(" client=198.51.100.7:51522 via=198.51.100.9:40000 original_dst="));
    CHECK(render(Format::json, moment, carried)
              .contains(R"("client":"198.51.100.7:51522","via":"198.51.100.9:40000",)"));
}

TEST_CASE("a session without service and target says so") {
    SessionRecord bare;
    CHECK(render(Format::json, moment, bare).find(R"("service":"-")") != std::string::npos);
    CHECK(render(Format::text, moment, bare).find("target=- ") != std::string::npos);
}

TEST_CASE("what comes from outside cannot break a line of JSON") {
    Happening odd{.level = Level::warn,
                  .event = "odd",
                  .message = "a \"quote\", a \\ and a \n",
                  .fields = {{"key", "\x01"}}};
    CHECK(render(Format::json, moment, odd) ==
          R"({"time":"2023-11-14T22:13:20.203Z","level":"warn","event":"odd",)"
          R"("message":"a \"quote\", a \\ and a \u000a","key":"\u0001"})");
}

TEST_CASE("what comes from outside is no line of its own, and no command for a terminal") {
    Happening odd{.level = Level::warn, .event = "odd", .message = "a\nb\x1b[2Jc", .fields = {}};
    CHECK(render(Format::text, moment, odd).ends_with(" warn  a?b?[2Jc"));
}

TEST_CASE("whatever bytes a line of JSON is to hold, it is JSON, and UTF-8") {
    auto message_of = [](std::string bytes) {
        Happening odd{.level = Level::info, .event = "odd", .message = bytes, .fields = {}};
        const auto line = render(Format::json, moment, odd);
        REQUIRE(parse_json_object(line));
        const size_t begin = line.find(R"("message":")") + 11;
        return line.substr(begin, line.size() - begin - 2);
    };
    CHECK(message_of("gr\xc3\xb6\xc3\x9f"
                     "e \xe2\x82\xac \xf0\x9f\x98\x80") ==
          "gr\xc3\xb6\xc3\x9f"
          "e \xe2\x82\xac \xf0\x9f\x98\x80");
    CHECK(message_of("\xff\x80z") == "\\ufffd\\ufffdz");
    CHECK(message_of("cut \xe2\x82") == "cut \\ufffd\\ufffd");
    CHECK(message_of("\xc0\xaf") == "\\ufffd\\ufffd");             // '/' in too many bytes
    CHECK(message_of("\xe0\x9f\xbf") == "\\ufffd\\ufffd\\ufffd");  // the same in three
    CHECK(message_of("\xed\xa0\x80") == "\\ufffd\\ufffd\\ufffd");  // half a pair
    CHECK(message_of("\xf4\x90\x80\x80") == "\\ufffd\\ufffd\\ufffd\\ufffd");  // beyond the last one
    for (int first = 0; first < 256; ++first)
        for (int second = 0; second < 256; ++second)
            message_of({static_cast<char>(first), static_cast<char>(second)});
}

TEST_CASE("commands for a terminal are none in any of the ways to write them") {
    Happening odd{.level = Level::info,
                  .event = "odd",
                  .message =
                      "a\xc2\x9b"
                      "2Jb\x9b"
                      "c\x7f, \xc3\xa4",
                  .fields = {}};
    CHECK(render(Format::text, moment, odd).ends_with(" info  a?2Jb?c?, \xc3\xa4"));
}

TEST_CASE("a level hides what is below it") {
    Log log(Format::text, Level::warn);
    CHECK_FALSE(log.shows(Level::info));
    CHECK(log.shows(Level::warn));
    log.set(Format::json, Level::off);
    CHECK_FALSE(log.shows(Level::error));
}
