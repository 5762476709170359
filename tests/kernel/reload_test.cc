// SPDX-License-Identifier: Apache-2.0
// targets.toml edited while proxify runs, well and badly.
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <functional>
#include <set>
#include <thread>

#include "support/kernel_test.h"

using namespace proxify::test;

namespace {

/// A file in which service "web" has `ports` and the targets 127.0.0.1:`target`.
std::string web(const std::string& ports, const std::string& target = "9001") {
    return "[proxify]\ndefault_service = \"web\"\n[[service]]\nname = \"web\"\nports = " + ports +
           "\nhealth = false\ntargets = [\"127.0.0.1:" + target + "\"]\n";
}

std::string at(int port) {
    return "127.0.0.1:" + std::to_string(port);
}

/// The keys of proxy_ports, as numbers.
std::set<int> dumped_ports(const Namespace& ns, const Proxify& proxify) {
    Finished dump =
        run_line(ns, "bpftool -j map dump id " + std::to_string(proxify.ids().proxy_ports));
    std::set<int> ports;
    const std::string before = "\"key\":[\"";
    for (size_t found = 0; (found = dump.out.find(before, found)) != dump.out.npos; ++found) {
        unsigned low = 0, high = 0;
        if (std::sscanf(dump.out.c_str() + found + before.size(), "0x%x\",\"0x%x", &low, &high) ==
            2)
            ports.insert(static_cast<int>(low | high << 8));
    }
    return ports;
}

std::set<int> ports(std::initializer_list<int> list) {
    return list;
}

void edit_by_hand(const Namespace& ns, const Proxify& proxify, const std::string& what) {
    const size_t space = what.find(' ');
    Finished edit =
        run_line(ns, "bpftool map " + what.substr(0, space) + " id " +
                         std::to_string(proxify.ids().proxy_ports) + what.substr(space));
    INFO(edit.out + edit.err);
    REQUIRE(edit.exit_code == 0);
}

}  // namespace

TEST_CASE("edits apply while long-lived connections go on", "[P-37]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server green(ns, "127.0.0.1:9002", answer("green"));
    Server echoing(ns, "127.0.0.1:9003", echo());
    auto proxify = Proxify::start(ns, {.config = web("[5001]", "9003"), .flags = {"-b"}});
    Stream old = Stream::dial(ns, at(5001));
    auto still_works = [&] {
        old.send("still here");
        return old.receive_exactly(10) == "still here";
    };
    CHECK(still_works());

    // A port more, and another target.
    proxify.reload(web("[5001, 5002]", "9001"));
    CHECK(dumped_ports(ns, proxify) == ports({5001, 5002}));
    CHECK(answered_by(ns, at(5001)) == "blue");
    CHECK(answered_by(ns, at(5002)) == "blue");
    CHECK(still_works());

    // The port of the old connection goes.
    proxify.reload(web("[5002]", "9001"));
    CHECK(dumped_ports(ns, proxify) == ports({5002}));
    CHECK(answered_by(ns, at(5001)) == "refused");
    CHECK(answered_by(ns, at(5002)) == "blue");
    CHECK(still_works());

    // A port moves to another service, and the service of the old connection is gone.
    proxify.reload(R"(
[[service]]
name    = "other"
ports   = ["5002-5004"]
targets = ["127.0.0.1:9002"]
)");
    CHECK(dumped_ports(ns, proxify) == ports({5002, 5003, 5004}));
    for (int port : {5002, 5003, 5004}) CHECK(answered_by(ns, at(port)) == "green");
    CHECK(still_works());

    old.finish();
    CHECK(old.receive_all().end == End::clean);
    bool logged = false;
    CHECK(eventually([&] {
        for (const auto& session : session_lines(proxify.log()))
            logged |= session.service == "web" && session.target == "127.0.0.1:9003";
        return logged;
    }));
}

TEST_CASE("without -b too, added ports open and removed ports refuse", "[P-37]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server echoing(ns, "127.0.0.1:9003", echo());
    auto proxify = Proxify::start(ns, {.config = web("[5001]", "9003")});
    Stream old = Stream::dial(ns, at(5001));
    proxify.reload(web("[5002]", "9001"));
    CHECK(answered_by(ns, at(5002)) == "blue");
    CHECK(eventually([&] { return Stream::dial_error(ns, at(5001)) == ECONNREFUSED; }));
    old.send("still here");
    CHECK(old.receive_exactly(10) == "still here");
}

TEST_CASE("no connection is lost or led astray while the file changes again and again", "[P-37]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server green(ns, "127.0.0.1:9002", answer("green"));
    auto proxify = Proxify::start(ns, {.config = web("[5001]"), .flags = {"-b"}});
    // 5001 stays with blue throughout, while 5002 comes and goes with green.
    const std::string more =
        "[[service]]\nname = \"more\"\nports = [5002]\ntargets = [\"127.0.0.1:9002\"]\n";
    std::atomic<bool> enough = false;
    std::string wrong;
    int asked = 0;
    std::thread knocker([&] {
        for (; !enough; ++asked) {
            auto steady = answered_by(ns, at(5001));
            auto coming = answered_by(ns, at(5002));
            if (steady != "blue") wrong = "5001 was answered by " + steady;
            if (coming != "green" && coming != "refused") wrong = "5002 was answered by " + coming;
        }
    });
    std::string problem;
    try {
        for (int edit = 0; edit < 20; ++edit)
            proxify.reload(edit % 2 ? web("[5001]") : web("[5001]") + more);
    } catch (const std::exception& error) {
        problem = error.what();
    }
    enough = true;
    knocker.join();
    CHECK(problem == "");
    CHECK(wrong == "");
    CHECK(asked > 20);
}

TEST_CASE("any way of editing is seen", "[P-38]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("sed");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    namespace fs = std::filesystem;

    struct Manner {
        const char* name;
        std::function<void(Proxify&, const std::string& file, int from, int to)> edit;
    };
    const Manner manners[] = {
        {"written in place", [](Proxify&, const std::string& file, int,
                                int to) { write_file(file, web("[" + std::to_string(to) + "]")); }},
        {"sed -i",
         [&](Proxify&, const std::string& file, int from, int to) {
             run_line(ns,
                      "sed -i s/" + std::to_string(from) + "/" + std::to_string(to) + "/ " + file);
         }},
        {"written beside and renamed over",
         [](Proxify&, const std::string& file, int, int to) {
             replace_file(file, web("[" + std::to_string(to) + "]"));
         }},
        {"as vim does: the old one renamed away, a new one written, the old one deleted",
         [](Proxify&, const std::string& file, int, int to) {
             fs::rename(file, file + "~");
             write_file(file, web("[" + std::to_string(to) + "]"));
             fs::remove(file + "~");
         }},
        {"a symlink swapped",
         [](Proxify&, const std::string& file, int, int to) {
             const std::string version = file + "." + std::to_string(to);
             write_file(version, web("[" + std::to_string(to) + "]"));
             fs::create_symlink(version, file + ".link");
             fs::rename(file + ".link", file);
         }},
        {"the file behind the symlink written in place",
         [](Proxify&, const std::string& file, int, int to) {
             write_file(fs::canonical(file), web("[" + std::to_string(to) + "]"));
         }},
        {"SIGHUP",
         [](Proxify& proxify, const std::string& file, int, int to) {
             // Written under another name of the same file, in a directory that nobody watches.
             TempDir elsewhere;
             fs::create_hard_link(fs::canonical(file), elsewhere / "same-file");
             write_file(elsewhere / "same-file", web("[" + std::to_string(to) + "]"));
             proxify.process().signal(SIGHUP);
         }},
    };
    auto proxify = Proxify::start(ns, {.config = web("[5100]"), .flags = {"-b"}});
    int port = 5100;
    for (const Manner& manner : manners) {
        for (int i = 0; i < 10; ++i, ++port) {
            INFO(manner.name << ", edit " << i);
            manner.edit(proxify, proxify.config_path(), port, port + 1);
            const bool applied =
                eventually([&] { return answered_by(ns, at(port + 1)) == "blue"; });
            if (!applied) FAIL(proxify.log());
            REQUIRE(eventually([&] { return answered_by(ns, at(port)) == "refused"; }));
        }
    }
    CHECK(reloads_refused(proxify.log()) == 0);
}

TEST_CASE("a config map's way: the directory behind a symlink is swapped", "[P-38]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    namespace fs = std::filesystem;
    // targets.toml -> ..data/targets.toml, ..data -> version N: what Kubernetes mounts.
    TempDir directory;
    auto publish = [&](int version, int port) {
        const std::string folder = directory / ("version-" + std::to_string(version));
        fs::create_directory(folder);
        write_file(folder + "/targets.toml", web("[" + std::to_string(port) + "]"));
        fs::create_symlink(folder, directory / "..next");
        fs::rename(directory / "..next", directory / "..data");
    };
    publish(0, 5100);
    fs::create_symlink("..data/targets.toml", directory / "targets.toml");
    auto proxify =
        Proxify::start(ns, {.config = "", .flags = {"-b", "-c", directory / "targets.toml"}});
    for (int version = 1; version <= 10; ++version) {
        publish(version, 5100 + version);
        INFO("version " << version);
        REQUIRE(eventually([&] { return answered_by(ns, at(5100 + version)) == "blue"; }));
    }
}

TEST_CASE("a bad edit changes nothing and says why, and the next good one applies", "[P-39]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("[5001, 5002]"), .flags = {"-b"}});
    const std::string bad_files[] = {
        "not toml at all",
        "",
        web("[5001, 5003, 70000]"),
        web("[5001, 5003, 5003]"),
        web("[5003]") + "colour = \"blue\"\n",
        "[proxify]\nlisten = 8081\n[[service]]\nname = \"web\"\nports = [5003]\ntargets = "
        "[\"127.0.0.1:9001\"]\n",
    };
    int refused = 0;
    for (const auto& bad : bad_files) {
        INFO(bad);
        write_file(proxify.config_path(), bad);
        if (!eventually([&] { return reloads_refused(proxify.log()) > refused; }))
            FAIL(proxify.log());
        refused = reloads_refused(proxify.log());
        CHECK(dumped_ports(ns, proxify) == ports({5001, 5002}));
        CHECK(answered_by(ns, at(5001)) == "blue");
        CHECK(answered_by(ns, at(5003)) == "refused");
    }
    CHECK(find_line(proxify.log(), {"reload: refused", "listen", "restart"}));
    CHECK(find_line(proxify.log(), {"reload: refused", "targets.toml:5:", "70000"}));

    proxify.reload(web("[5001, 5003]"));
    CHECK(answered_by(ns, at(5003)) == "blue");
    CHECK(answered_by(ns, at(5002)) == "refused");
}

TEST_CASE("the number of workers changes under load, and no client is lost", "[P-37]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Server echoing(ns, "127.0.0.1:9002", echo());
    auto with_workers = [](int count) {
        return "[proxify]\nworkers = " + std::to_string(count) +
               "\n[[service]]\nname = \"web\"\nports = [5001]\nhealth = false\n"
               "targets = [\"127.0.0.1:9001\"]\n"
               "[[service]]\nname = \"echo\"\nports = [5002]\nhealth = false\n"
               "targets = [\"127.0.0.1:9002\"]\n";
    };
    for (bool steered : {true, false}) {
        INFO(steered);
        Setup setup{.config = with_workers(1)};
        if (steered) setup.flags = {"-b"};
        auto proxify = Proxify::start(ns, std::move(setup));
        auto count_threads = [&] {
            auto tasks = "/proc/" + std::to_string(proxify.process().pid()) + "/task";
            return std::ranges::distance(std::filesystem::directory_iterator(tasks));
        };
        const auto threads_beside = count_threads() - 1;

        std::atomic<bool> enough = false;
        std::atomic<int> served = 0, lost = 0;
        auto knock = [&] {
            while (!enough) ++(answered_by(ns, "127.0.0.1:5001") == "blue" ? served : lost);
        };
        std::vector<std::jthread> load;
        struct Stop {
            std::atomic<bool>& enough;
            ~Stop() { enough = true; }
        } stop{enough};
        for (int i = 0; i < 4; ++i) load.emplace_back(knock);

        std::vector<Stream> long_lived;
        for (int count : {4, 1, 3, 2, 8, 5, 1}) {
            INFO(count);
            proxify.reload(with_workers(count));
            CHECK(find_line(proxify.log(), {"reload: applied", std::to_string(count) + " worker"}));
            for (int i = 0; i < 8; ++i) {
                long_lived.push_back(Stream::dial(ns, "127.0.0.1:5002"));
                long_lived.back().send("here");
                CHECK(long_lived.back().receive_exactly(4) == "here");
            }
            const int before = served;
            CHECK(eventually([&] { return served > before + 20; }));
        }
        // Workers that were retired go on for the sessions they have.
        CHECK(count_threads() > threads_beside + 1);
        for (auto& stream : long_lived) {
            stream.send("still here");
            CHECK(stream.receive_exactly(10) == "still here");
        }
        long_lived.clear();
        CHECK(eventually([&] { return count_threads() == threads_beside + 1; }));

        enough = true;
        load.clear();
        CHECK(lost == 0);
        CHECK(proxify.stop() == 0);
    }
}

TEST_CASE("a file that is deleted and comes back is no disaster", "[P-39]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("[5001]"), .flags = {"-b"}});
    std::filesystem::remove(proxify.config_path());
    proxify.process().signal(SIGHUP);
    CHECK(eventually([&] { return reloads_refused(proxify.log()) == 1; }));
    CHECK(answered_by(ns, at(5001)) == "blue");
    proxify.reload(web("[5002]"));
    CHECK(answered_by(ns, at(5002)) == "blue");
}

TEST_CASE("a reload leaves ports added by hand, whatever it adds and removes itself", "[P-40]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("[5001, 5002]"), .flags = {"-b"}});
    edit_by_hand(ns, proxify, "update key 0x07 0x00 value 0x00");
    proxify.reload(web("[5002, 5003]"));
    CHECK(dumped_ports(ns, proxify) == ports({7, 5002, 5003}));
    CHECK(answered_by(ns, at(7)) == "blue");

    // One added by hand, then named by the file, then no more: still the hand's.
    edit_by_hand(ns, proxify, "update key 0x91 0x13 value 0x00");  // 5009
    proxify.reload(web("[5002, 5009]"));
    proxify.reload(web("[5002]"));
    CHECK(dumped_ports(ns, proxify) == ports({7, 5002, 5009}));
}

TEST_CASE("a configured port that was deleted by hand returns with the next reload", "[P-40]") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("bpftool");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(ns, {.config = web("[5001]"), .flags = {"-b"}});
    edit_by_hand(ns, proxify, "delete key 0x89 0x13");  // 5001
    CHECK(answered_by(ns, at(5001)) == "refused");
    proxify.reload(web("[5001, 5002]"));
    CHECK(dumped_ports(ns, proxify) == ports({5001, 5002}));
    CHECK(answered_by(ns, at(5001)) == "blue");
}

TEST_CASE("a target keeps its health over a reload", "[P-37]") {
    IN_NAMESPACE(ns);
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto file = [](const std::string& ports) {
        return "[[service]]\nname = \"web\"\nports = " + ports +
               "\ntargets = [\"127.0.0.1:9009\", \"127.0.0.1:9001\"]\n"
               "health = { type = \"tcp\", interval = \"50ms\", timeout = \"200ms\", rise = 2, "
               "fall = 2 }\n";
    };
    auto proxify = Proxify::start(ns, {.config = file("[5001]"), .flags = {"-b"}});
    REQUIRE(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9009") == 1; }));
    proxify.reload(file("[5001, 5002]"));
    for (int i = 0; i < 4; ++i) CHECK(answered_by(ns, at(5002)) == "blue");
    for (const auto& session : proxify.sessions(4)) CHECK(session.tried == 1);
    CHECK(times_down(proxify.log(), "127.0.0.1:9009") == 1);
}
