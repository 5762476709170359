// SPDX-License-Identifier: Apache-2.0
// The chain of a service: real sockets, the real program, and elements between them.
#include <atomic>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <iostream>
#include <mutex>
#include <thread>

#include "road.h"
#include "support/exposition.h"
#include "support/kernel_test.h"
#include "support/pattern.h"
#include "support/told.h"

using namespace proxify::test;

namespace {

constexpr uint64_t mebibyte = 1 << 20;

/// One service on port 5001 with its target at 127.0.0.1:9001, its `filters`, and more keys.
std::string config_with(const std::string& filters, const std::string& more = "") {
    return "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
           "targets = [\"127.0.0.1:9001\"]\nfilters = [" +
           filters + "]\n" + more + "\n";
}

Setup through(const std::string& filters, const std::string& more = "") {
    return {.config = config_with(filters, more), .flags = {"-b"}};
}

/// What a client hears that says `says`, ends, and listens to the end.
Got converse(const Namespace& ns, const std::string& says,
             const std::string& at = "127.0.0.1:5001") {
    Stream client = Stream::dial(ns, at);
    client.send(says);
    client.finish();
    return client.receive_all();
}

/// Hears all that the client says, tells it, and says `answer`.
Handler hears(Told<std::string>& told, std::string answer = "") {
    return [&told, answer = std::move(answer)](Stream& client) {
        std::string heard;
        for (std::string more; !(more = client.receive()).empty();) heard += more;
        told.tell(heard);
        if (!answer.empty()) client.send(answer);
    };
}

std::string replace(const std::string& find, const std::string& with,
                    const std::string& more = "") {
    return "{ type = \"replace\", find = \"" + find + "\", with = \"" + with + "\"" + more + " }";
}

/// So many bytes each way at once, compared at both ends; what went wrong, or "".
std::string both_ways(const Namespace& ns, uint64_t size) {
    const Pattern up(1), down(2);
    auto send = [size](Stream& to, const Pattern& pattern, std::string& problem) {
        try {
            send_pattern(to, pattern, size);
            to.finish();
        } catch (const std::exception& error) {
            problem = std::string("sending: ") + error.what();
        }
    };
    auto receive = [size](Stream& from, const Pattern& pattern, std::string& problem) {
        try {
            receive_pattern(from, pattern, size);
        } catch (const std::exception& error) {
            problem = std::string("receiving: ") + error.what();
        }
    };
    Told<std::string> target_says;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        std::string sending, receiving;
        std::thread sender([&] { send(client, down, sending); });
        receive(client, up, receiving);
        sender.join();
        target_says.tell(sending + receiving);
    });
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    std::string sending, receiving;
    std::thread sender([&] { send(client, up, sending); });
    receive(client, down, receiving);
    sender.join();
    return sending + receiving + target_says.get();
}

/// A script in a directory of its own, and the element that runs it.
class Script {
  public:
    Script(const std::string& name, const std::string& code) : path_(directory_ / name) {
        write_file(path_, code);
    }
    const std::string& path() const { return path_; }

  private:
    TempDir directory_;
    std::string path_;
};

std::string lua(const std::string& path, const std::string& more = "") {
    return "{ type = \"lua\", script = \"" + path + "\"" + more + " }";
}

/// One of those that docs/elements.md shows.
std::string example(const std::string& name, const std::string& more = "") {
    return lua(source_root() + "/docs/elements/" + name, more);
}

/// Its function to_target, with `body`, whose first line is line 3.
std::string to_target(const std::string& body) {
    return "local element = {}\nfunction element.to_target(chunk, session)\n" + body +
           "\nend\nreturn element\n";
}

const std::string on_air = "[admin]\nhttp = \"127.0.0.1:5999\"\n";

/// How often the element failed, by the metrics of a proxify that is `on_air`.
double failed(const Namespace& ns, const std::string& element, const std::string& direction) {
    Stream client = Stream::dial(ns, "127.0.0.1:5999");
    client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    const std::string page = client.receive_all().bytes;
    return parse_exposition(page.substr(page.find("\r\n\r\n") + 4))
        .at("proxify_element_failed_total{service=\"web\",element=\"" + element +
            "\",direction=\"" + direction + "\"}");
}

/// Something that eight random bytes have next to no chance to be.
const std::string no_hit = replace("not to be found", "found");

}  // namespace

TEST_CASE("both directions go through a chain at once, and each ends by itself", "[X-09]") {
    IN_NAMESPACE(ns);
    auto proxify = Proxify::start(ns, through(R"({ type = "count" }, )" + no_hit));
    CHECK(both_ways(ns, 128 * mebibyte) == "");
    CHECK(proxify.sessions(1)[0].ending.starts_with("--"));
}

TEST_CASE("a client that has finished sending gets an answer that goes through the chain",
          "[X-09]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001", hears(heard, "no: hold on"));
    auto proxify = Proxify::start(ns, through(replace("on!", "off", ", hold = \"1h\"")));
    // The last "on" may be the beginning of what is replaced, until the stream ends.
    const Got got = converse(ns, "on! hold on");
    CHECK(heard.get() == "off hold on");
    CHECK(got.bytes == "no: hold on");
    CHECK(got.end == End::clean);
}

TEST_CASE("elements look at both directions and change them, each as it is told", "[X-10]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001", hears(heard, "red green blue"));
    auto proxify =
        Proxify::start(ns, through(R"({ type = "log", name = "look" }, )" +
                                   replace("red", "RED", ", direction = \"to_target\"") + ", " +
                                   replace("blue", "BLUE", ", direction = \"to_client\"")));
    CHECK(converse(ns, "blue green red").bytes == "red green BLUE");
    CHECK(heard.get() == "blue green RED");
    CHECK(eventually([&] { return count_lines(proxify.log(), {"look", "14 bytes"}) == 2; }));
}

TEST_CASE("what an element drops is not sent on, and the connection continues", "[X-11]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify =
        Proxify::start(ns, through(R"({ type = "log", name = "look", direction = "to_target" }, )"
                                   R"({ type = "match", pattern = "DROP", action = "drop" })"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send("one");
    CHECK(client.receive_exactly(3) == "one");
    client.send("DROP this");
    // It has come as a chunk of its own.
    REQUIRE(eventually([&] { return find_line(proxify.log(), {"look", "9 bytes"}).has_value(); }));
    client.send("two");
    client.finish();
    const Got got = client.receive_all();
    CHECK(got.bytes == "two");
    CHECK(got.end == End::clean);
}

TEST_CASE("a chain that is empty, or passes all, leaves every byte as it is", "[X-12]") {
    IN_NAMESPACE(ns);
    const Script pass("pass.lua",
                      "return { to_target = function() end, to_client = function() end }");
    const Script same("same.lua",
                      "local function same(chunk) return chunk end\n"
                      "return { to_target = same, to_client = same }\n");
    for (const std::string& chain :
         {std::string(), std::string(R"({ type = "count" })"),
          std::string(R"({ type = "count" }, { type = "limit_bytes", bytes = "1GiB" })"),
          lua(pass.path()), lua(pass.path()) + R"(, { type = "count" }, )" + lua(same.path())}) {
        INFO(chain);
        auto proxify = Proxify::start(ns, through(chain));
        CHECK(both_ways(ns, 64 * mebibyte) == "");
        CHECK(proxify.sessions(1)[0].ending.starts_with("--"));
    }
}

TEST_CASE("elements go forward on the way to the target, and in reverse on the way back",
          "[X-13]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001", hears(heard, "|"));
    auto proxify = Proxify::start(ns, through(replace("|", "A|") + ", " + replace("|", "B|")));
    const Got got = converse(ns, "|");
    CHECK(heard.get() == "AB|");
    CHECK(got.bytes == "BA|");
}

TEST_CASE("what is dropped reaches no later element", "[X-15]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto proxify = Proxify::start(
        ns, through(R"({ type = "match", pattern = "DROP", action = "drop", delimiter = "\n", )"
                    R"(direction = "to_target" }, { type = "limit_bytes", bytes = 8 })"));
    const Got got = converse(ns, "one\nDROP " + std::string(1000, 'x') + "\ntwo\n");
    CHECK(got.bytes == "one\ntwo\n");
    CHECK(got.end == End::clean);
}

TEST_CASE("an element is shown 4096 bytes at most, or as many as chunk_size says", "[X-16]") {
    IN_NAMESPACE(ns);
    struct Row {
        const char* more;
        size_t most;
    };
    for (const auto& row :
         {Row{"", 4096}, Row{"chunk_size = 1000", 1000}, Row{"chunk_size = \"16KiB\"", 16384}}) {
        INFO(row.more);
        const Pattern pattern(7);
        Server target(ns, "127.0.0.1:9001", swallow());
        auto proxify = Proxify::start(
            ns, through(R"({ type = "log", name = "look", direction = "to_target" })", row.more));
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        send_pattern(client, pattern, mebibyte);
        client.finish();
        CHECK(client.receive_all().end == End::clean);
        proxify.sessions(1);
        size_t most = 0, sum = 0;
        for (const auto& line : lines_of(proxify.log())) {
            const size_t at = line.find(" bytes");
            if (!line.contains("look") || at == std::string::npos) continue;
            const size_t size = std::stoul(line.substr(line.rfind(' ', at - 1) + 1));
            most = std::max(most, size);
            sum += size;
        }
        CHECK(most == row.most);
        CHECK(sum == mebibyte);
    }
}

TEST_CASE("what an element makes longer, shorter or nothing at all arrives so", "[X-17]") {
    IN_NAMESPACE(ns);
    struct Row {
        std::string find, with;
    };
    for (const auto& row : {Row{"a", "aaaaaaaaaaaaaaaa"}, Row{"aaaa", "a"}, Row{"a", ""}}) {
        CAPTURE(row.find, row.with);
        std::string says, becomes;
        for (int i = 0; i < 20'000; ++i) {
            const std::string rest = " " + std::to_string(i);
            says += row.find + rest;
            becomes += row.with + rest;
        }
        Told<std::string> heard;
        Server target(ns, "127.0.0.1:9001", hears(heard, says));
        auto proxify = Proxify::start(ns, through(replace(row.find, row.with)));
        const Got got = converse(ns, says);
        CHECK(heard.get() == becomes);
        CHECK(got.bytes == becomes);
        CHECK(got.end == End::clean);
        const auto session = proxify.sessions(1)[0];
        CHECK(session.ending.starts_with("--"));
    }
}

TEST_CASE("a stream that becomes empty still ends", "[X-17]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001", hears(heard, "aaa"));
    auto proxify = Proxify::start(ns, through(replace("a", "")));
    const Got got = converse(ns, std::string(mebibyte, 'a'));
    CHECK(heard.get() == "");
    CHECK(got.bytes == "");
    CHECK(got.end == End::clean);
}

TEST_CASE("a session that would take more than its limit ends after the last byte of it",
          "[X-17]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001",
                  [&](Stream& client) { heard.tell(client.receive_all().bytes); });
    auto proxify = Proxify::start(ns, through(R"({ type = "limit_bytes", bytes = "1MiB" })"));
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    try {
        client.send(std::string(2 * mebibyte, 'x'));
    } catch (const StreamError&) {
        // It may be told before it has sent all.
    }
    CHECK(client.receive_all().end == End::reset);
    CHECK(heard.get().size() == mebibyte);
    const auto session = proxify.sessions(1)[0];
    INFO(session.line);
    CHECK(session.ending.starts_with("PF more bytes than allowed"));
}

TEST_CASE("a stream that grows under a reader who does not read waits, and memory stays bounded",
          "[X-17]") {
    IN_NAMESPACE(ns);
    constexpr size_t grows_to = 4096, count = 20'000;
    std::atomic<bool> may_read = false;
    Told<size_t> heard;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        eventually([&] { return may_read.load(); }, 60s);
        size_t size = 0;
        for (std::string more; !(more = client.receive(mebibyte)).empty(); size += more.size())
            if (more.find_first_not_of('b') != std::string::npos) break;
        heard.tell(size);
    });
    auto proxify = Proxify::start(ns, through(replace("a", std::string(grows_to, 'b'))));
    const size_t before = proxify.process().resident_bytes();
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send(std::string(count, 'a'));
    client.finish();
    REQUIRE(client.is_delivered());
    size_t most = 0;
    // The kernel's own buffers fill first; then it has to stand still.
    const Moment until = now() + 500ms;
    CHECK(eventually([&] {
        most = std::max(most, proxify.process().resident_bytes());
        return now() > until;
    }));
    CHECK(most < before + (sanitized ? 64 : 8) * mebibyte);
    may_read = true;
    CHECK(heard.get() == count * grows_to);
    CHECK(proxify.sessions(1)[0].ending.starts_with("--"));
}

TEST_CASE(
    "a chain that changes under load fails nobody: who is there keeps theirs, who comes gets "
    "the new one") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    auto chain = [](char letter) {
        return config_with(
            replace("|", std::string(1, letter) + "|", ", direction = \"to_target\""));
    };
    auto proxify = Proxify::start(ns, {.config = chain('a'), .flags = {"-b"}});
    auto ask = [](Stream& client) {
        client.send("|");
        return client.receive_exactly(2);
    };

    std::atomic<bool> is_over = false;
    std::atomic<int> asked = 0;
    std::string problem;
    std::mutex problem_lock;
    std::vector<std::thread> crowd;
    for (int i = 0; i < 4; ++i)
        crowd.emplace_back([&] {
            try {
                while (!is_over) {
                    Stream client = Stream::dial(ns, "127.0.0.1:5001");
                    const std::string first = ask(client);
                    for (int j = 0; j < 20; ++j)
                        if (ask(client) != first) throw std::runtime_error("not as at first");
                    client.finish();
                    if (client.receive_all().end != End::clean)
                        throw std::runtime_error("no clean end");
                    ++asked;
                }
            } catch (const std::exception& error) {
                std::lock_guard lock(problem_lock);
                problem = error.what();
            }
        });
    std::vector<Stream> kept;
    for (char letter = 'a'; letter <= 'p'; ++letter) {
        if (letter > 'a') proxify.reload(chain(letter));
        kept.push_back(Stream::dial(ns, "127.0.0.1:5001"));
        for (size_t i = 0; i < kept.size(); ++i)
            CHECK(ask(kept[i]) == std::string(1, static_cast<char>('a' + i)) + "|");
        const int before = asked;
        CHECK(eventually([&] { return asked > before + 4 || !problem.empty(); }));
    }
    is_over = true;
    for (auto& thread : crowd) thread.join();
    CHECK(problem == "");
}

TEST_CASE("a chain is the same behind a port that is steered and behind a capture") {
    IN_NAMESPACE(probe);
    NEEDS_NETFILTER();
    Road road;
    must(road.host,
         "nft -f - <<'END'\n"
         "table inet doors {\n"
         "  chain nat {\n"
         "    type nat hook prerouting priority dstnat; policy accept;\n"
         "    tcp dport 8081 redirect to :15002\n"
         "  }\n"
         "}\n"
         "END\n");
    const auto& of = Road::families[0];
    const std::string filters =
        "filters = [" + replace("|", "A|") + ", " + replace("|", "B|") + "]\n";
    auto proxify = Proxify::start(
        road.host, {.config = "[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
                              "targets = [\"127.0.0.1:9001\"]\n" +
                              filters +
                              "[[service]]\nname = \"outbound\"\ntargets = [\"original\"]\n"
                              "health = false\n" +
                              filters +
                              "[[capture]]\ntype = \"redirect\"\nports = [15002]\n"
                              "service = \"outbound\"\n",
                    .flags = {"-b"}});
    Told<std::string> steered, redirected;
    Server near(road.host, "127.0.0.1:9001", hears(steered, "|"));
    Server far(road.target, of.at(of.target, 8081), hears(redirected, "|"));
    CHECK(converse(road.client, "|", of.at(of.host_near_client, 5001)).bytes == "BA|");
    CHECK(steered.get() == "AB|");
    CHECK(converse(road.client, "|", of.at(of.target, 8081)).bytes == "BA|");
    CHECK(redirected.get() == "AB|");
}

TEST_CASE("a script writes both directions in capitals", "[X-10]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001", hears(heard, "and this back"));
    auto proxify = Proxify::start(ns, through(example("upper.lua")));
    const Got got = converse(ns, "this there");
    CHECK(heard.get() == "THIS THERE");
    CHECK(got.bytes == "AND THIS BACK");
    CHECK(got.end == End::clean);
}

TEST_CASE("first_line ends who begins with a forbidden command, and shows no more of others") {
    IN_NAMESPACE(ns);
    const std::string look = R"({ type = "log", name = "look", direction = "to_target" }, )";
    const std::string guarded = look + example("first_line.lua", ", on_error = \"close\"");
    SECTION("others") {
        Server target(ns, "127.0.0.1:9001", echo());
        auto proxify = Proxify::start(ns, through(guarded));
        CHECK(converse(ns, "GET name\nSHUTDOWN\n").bytes == "GET name\nSHUTDOWN\n");
        // Without a newline: what was kept back goes on at the end.
        CHECK(converse(ns, "GET name").bytes == "GET name");
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send("GET this\n");
        CHECK(client.receive_exactly(9) == "GET this\n");
        client.send("FLUSHALL\n");
        CHECK(client.receive_exactly(9) == "FLUSHALL\n");
    }
    SECTION("the forbidden ones") {
        struct Row {
            std::vector<std::string> pieces;
            std::string reason;
        };
        const Row rows[] = {
            {{"SHUTDOWN now\n"}, "127.0.0.1 may not say SHUTDOWN"},
            {{"  flush", "all\n"}, "127.0.0.1 may not say FLUSHALL"},
            {{std::string(4097, 'x')}, "the first line is too long"},
        };
        for (const auto& row : rows) {
            INFO(row.reason);
            Told<std::string> heard;
            Server target(ns, "127.0.0.1:9001",
                          [&](Stream& client) { heard.tell(client.receive_all().bytes); });
            auto proxify = Proxify::start(ns, through(guarded));
            Stream client = Stream::dial(ns, "127.0.0.1:5001");
            int chunks = 0;
            for (const auto& piece : row.pieces) {
                client.send(piece);
                ++chunks;
                // Each of them has come as a chunk of its own.
                REQUIRE(eventually(
                    [&] { return count_lines(proxify.log(), {"look", " bytes"}) >= chunks; }));
            }
            CHECK(client.receive_all().end == End::reset);
            CHECK(heard.get() == "");
            CHECK(proxify.sessions(1)[0].ending.starts_with("PF a script said so"));
            CHECK(count_lines(proxify.log(), {"element lua: " + row.reason}) == 1);
        }
    }
}

TEST_CASE("redact hides numbers of cards in answers, wherever they were cut, and nothing else") {
    IN_NAMESPACE(ns);
    const std::string answer = "card 4000-1234-5678-9010, id 12345678.\n4000123456789010";
    const std::string redacted = "card ****-****-****-9010, id 12345678.\n************9010";
    std::atomic<size_t> cut = 0;
    std::atomic<bool> has_come = false;
    Server target(ns, "127.0.0.1:9001", [&](Stream& client) {
        const std::string question = client.receive_all(10min).bytes;
        if (question != answer) return;  // what clients say is not shown to it
        client.send(answer.substr(0, cut));
        eventually([&] { return has_come.load(); });
        client.send(answer.substr(cut));
    });
    for (size_t at : {3, 5, 6, 9, 10, 23, 24, 30, 38, 39, 47}) {
        CAPTURE(at);
        auto proxify = Proxify::start(
            ns, through(example("redact.lua", ", on_error = \"close\"") +
                        R"(, { type = "log", name = "look", direction = "to_client" })"));
        cut = at;
        has_come = false;
        Stream client = Stream::dial(ns, "127.0.0.1:5001");
        client.send(answer);
        client.finish();
        CHECK(eventually([&] { return count_lines(proxify.log(), {"look", " bytes"}) == 1; }));
        has_come = true;
        const Got got = client.receive_all();
        CHECK(got.bytes == redacted);
        CHECK(got.end == End::clean);
        CHECK(eventually([&] {
            return count_lines(proxify.log(), {"element lua: 2 numbers were hidden"}) == 1;
        }));
    }
}

TEST_CASE(
    "an element that fails lets the chunk pass as it was, and says so once for each direction",
    "[X-14]") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    const Script upper("upper.lua", to_target("  error(\"not today\")"));
    auto proxify =
        Proxify::start(ns, {.config = on_air + config_with(lua(upper.path())), .flags = {"-b"}});
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    for (const std::string says : {"one", "two", "six"}) {
        client.send(says);
        CHECK(client.receive_exactly(3) == says);
    }
    CHECK(failed(ns, "lua", "to_target") == 3);
    client.finish();
    CHECK(client.receive_all().end == End::clean);
    CHECK(proxify.sessions(1)[0].ending.starts_with("--"));
    CHECK(count_lines(proxify.log(), {" error "}) == 1);
    CHECK(count_lines(proxify.log(), {" error ", "session 1 of service web",
                                      "element lua failed: ", "upper.lua:3: not today"}) == 1);
    // The next session has a script of its own, and a line of its own.
    CHECK(converse(ns, "ten").bytes == "ten");
    CHECK(failed(ns, "lua", "to_target") == 4);
    CHECK(count_lines(proxify.log(), {" error ", "session 2 of service web"}) == 1);
}

TEST_CASE("a failure changes nothing for later elements, which see the chunk as it was", "[X-14]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001", hears(heard, "low"));
    const Script wrong("wrong.lua", to_target("  return 7, {}"));
    auto proxify = Proxify::start(ns, through(replace("low", "lower") + ", " + lua(wrong.path()) +
                                              ", " + example("upper.lua")));
    const Got got = converse(ns, "low");
    CHECK(heard.get() == "LOWER");
    CHECK(got.bytes == "LOW");
    CHECK(count_lines(proxify.log(), {"element lua failed: ", "wrong.lua"}) == 1);
}

TEST_CASE("where its file says so, an element that fails ends the session instead", "[X-14]") {
    IN_NAMESPACE(ns);
    Told<std::string> heard;
    Server target(ns, "127.0.0.1:9001",
                  [&](Stream& client) { heard.tell(client.receive_all().bytes); });
    const Script upper(
        "upper.lua", to_target("  if chunk:find(\"bad\") then local nobody; nobody.said = 1 end"));
    auto proxify = Proxify::start(
        ns, {.config = on_air + config_with(R"({ type = "log", name = "look" }, )" +
                                            lua(upper.path(), ", on_error = \"close\"")),
             .flags = {"-b"}});
    Stream client = Stream::dial(ns, "127.0.0.1:5001");
    client.send("good");
    REQUIRE(eventually([&] { return find_line(proxify.log(), {"look", "4 bytes"}).has_value(); }));
    client.send("bad");
    CHECK(client.receive_all().end == End::reset);
    // What went on before has arrived.
    CHECK(heard.get() == "good");
    const auto session = proxify.sessions(1)[0];
    INFO(session.line);
    CHECK(session.ending.starts_with("PF an element failed"));
    CHECK(count_lines(proxify.log(), {" error ", "session 1 of service web",
                                      "element lua failed: ", "upper.lua:3: "}) == 1);
    CHECK(failed(ns, "lua", "to_target") == 1);
}

TEST_CASE(
    "a script that is saved is in force for who comes next, though nobody touches the file "
    "that names it") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    const Script script("tag.lua", to_target("  return \"a\" .. chunk"));
    auto proxify = Proxify::start(ns, through(lua(script.path())));
    auto ask = [](Stream& client) {
        client.send("|");
        return client.receive_exactly(2);
    };
    Stream first = Stream::dial(ns, "127.0.0.1:5001");
    CHECK(ask(first) == "a|");

    int applied = 0;
    // By an editor that writes another file over it, and by one that writes into it.
    for (auto* save : {&replace_file, &write_file}) {
        const std::string tag(1, static_cast<char>('b' + applied));
        save(script.path(), to_target("  return \"" + tag + "\" .. chunk"));
        CHECK(eventually([&] { return converse(ns, "|").bytes == tag + "|"; }));
        ++applied;
        CHECK(eventually([&] { return reloads_applied(proxify.log()) >= applied; }));
        CHECK(ask(first) == "a|");
    }

    // One with a mistake is refused with its place, in both files, and the last good one stays.
    const int before = reloads_applied(proxify.log());
    replace_file(script.path(), to_target("  return chunk .. "));
    REQUIRE(eventually([&] { return reloads_refused(proxify.log()) == 1; }));
    CHECK(find_line(proxify.log(), {"targets.toml:6:12: filters.script: ", "tag.lua:4: "}));
    CHECK(converse(ns, "|").bytes == "c|");
    CHECK(ask(first) == "a|");
    // So is none at all, for whoever asks for a reload.
    std::filesystem::remove(script.path());
    proxify.process().signal(SIGHUP);
    REQUIRE(eventually([&] { return reloads_refused(proxify.log()) == 2; }));
    CHECK(converse(ns, "|").bytes == "c|");
    CHECK(reloads_applied(proxify.log()) == before);

    replace_file(script.path(), to_target("  return \"d\" .. chunk"));
    CHECK(eventually([&] { return converse(ns, "|").bytes == "d|"; }));
    CHECK(ask(first) == "a|");
}

TEST_CASE("proxify does not start without a script that its file names, and says which and where") {
    IN_NAMESPACE(ns);
    struct Row {
        std::string script, says;
    };
    const Script wrong("wrong.lua",
                       "return {\n  to_target = function(chunk) return chunk:upper( end }");
    const Script empty("empty.lua", "local element = {}\n");
    const std::string file_that_is_none = empty.path() + ".gone";
    const Row rows[] = {
        {"upper.lua", "cannot read"},
        {file_that_is_none, file_that_is_none + ": No such file or directory"},
        {wrong.path(), "wrong.lua:2: "},
        {empty.path(), "empty.lua"},
    };
    for (const auto& row : rows) {
        CAPTURE(row.script);
        const auto refused = Proxify::refuse(ns, through(lua(row.script)));
        INFO(refused.err);
        CHECK(refused.exit_code != 0);
        CHECK(find_line(refused.err, {"targets.toml:6:12: filters.script: ", row.says}));
        CHECK(listening(ns).empty());
    }
}

TEST_CASE(
    "a script that never ends, or eats memory, in one session delays the others of its "
    "worker for a moment only") {
    IN_NAMESPACE(ns);
    Server target(ns, "127.0.0.1:9001", echo());
    const Script greedy("greedy.lua",
                        to_target(R"lua(  if chunk:find("loop") then while true do end end
  if chunk:find("backtrack") then return (("a"):rep(3000):find(("a*"):rep(30) .. "b")) end
  if chunk:find("eat") then
    local eaten = {}
    while true do eaten[#eaten + 1] = ("x"):rep(10000) .. #eaten end
  end)lua"));
    auto proxify = Proxify::start(
        ns, {.config = on_air + "[proxify]\nworkers = 1\n" + config_with(lua(greedy.path())),
             .flags = {"-b"}});
    Stream polite = Stream::dial(ns, "127.0.0.1:5001");
    polite.send("hello");
    CHECK(polite.receive_exactly(5) == "hello");
    const size_t before = proxify.process().resident_bytes();

    std::atomic<int> answered = 0;
    std::string problem;
    std::mutex problem_lock;
    std::vector<std::jthread> greedy_ones;
    for (const std::string& says : {"loop", "backtrack", "eat"})
        greedy_ones.emplace_back([&, says](std::stop_token stop) {
            try {
                // One after the other, so that there is always one to run.
                Stream client = Stream::dial(ns, "127.0.0.1:5001");
                while (!stop.stop_requested()) {
                    client.send(says);
                    if (client.receive_exactly(says.size()) != says)
                        throw std::runtime_error("not what was sent");
                    ++answered;
                }
            } catch (const std::exception& error) {
                std::lock_guard lock(problem_lock);
                problem = says + ": " + error.what();
            }
        });
    // Between two of its messages each of the three may be run once, for a million instructions.
    Millis longest = 0ms;
    size_t most = 0;
    for (int i = 0; i < 50; ++i) {
        const Moment began = now();
        polite.send("hello");
        CHECK(polite.receive_exactly(5) == "hello");
        longest = std::max(longest, std::chrono::duration_cast<Millis>(now() - began));
        most = std::max(most, proxify.process().resident_bytes());
    }
    for (auto& one : greedy_ones) one.request_stop();
    greedy_ones.clear();
    std::cout << "beside greedy scripts: answered within " << longest.count() << " ms, "
              << (most - std::min(most, before)) / 1024 << " KiB more\n";
    CHECK(problem == "");
    CHECK(answered >= 3);
    CHECK(longest < (sanitized ? 20s : 2s));
    CHECK(most < before + (sanitized ? 64 : 8) * mebibyte);
    // Each of their chunks was a failure, and passed as it was.
    CHECK(failed(ns, "lua", "to_target") == answered);
    CHECK(count_lines(proxify.log(), {"element lua failed: ", "greedy.lua"}) == 3);
    CHECK(find_line(proxify.log(), {"greedy.lua", "1000000 instructions"}));
    CHECK(find_line(proxify.log(), {"greedy.lua", "more memory than the 1048576 bytes"}));
}

TEST_CASE("every built-in element lets through what it should, byte for byte", "[X-12]") {
    IN_NAMESPACE(ns);
    struct Row {
        const char* what;
        std::string filters;
        uint64_t each_way;
    };
    const std::string hexdump = R"({ type = "hexdump", head = 4096, level = "debug" })";
    const std::string log = R"({ type = "log", head = 65536, level = "debug" })";
    const std::string rate = R"({ type = "rate", bytes = "8GiB" })";
    const std::string limit = R"({ type = "limit_bytes", bytes = "1024GiB" })";
    const std::string match = R"({ type = "match", pattern = "not to be found" })";
    const std::string count = R"({ type = "count" })";
    const Row rows[] = {
        Row{"count", count, 128 * mebibyte},
        Row{"limit_bytes", limit, 128 * mebibyte},
        Row{"log", log, 128 * mebibyte},
        Row{"hexdump", hexdump, 128 * mebibyte},
        Row{"rate", rate, 128 * mebibyte},
        Row{"replace", no_hit, 128 * mebibyte},
        Row{"match", match, 128 * mebibyte},
        Row{"all of them",
            count + ", " + limit + ", " + log + ", " + hexdump + ", " + rate + ", " + no_hit +
                ", " + match,
            512 * mebibyte},
    };
    for (const auto& row : rows) {
        const Moment begin = now();
        auto proxify = Proxify::start(ns, through(row.filters));
        INFO(row.what);
        CHECK(both_ways(ns, row.each_way) == "");
        const auto took = std::chrono::duration_cast<Millis>(now() - begin);
        std::cout << row.what << ": " << row.each_way / mebibyte << " MiB each way in "
                  << took.count() << " ms\n";
        CHECK(took < 100s);
    }
}
