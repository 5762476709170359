// SPDX-License-Identifier: Apache-2.0
// `user`: proxify is started as root and goes on as somebody who may do little.
#include <linux/capability.h>

#include <csignal>
#include <filesystem>
#include <map>
#include <sstream>

#include "base/format.h"
#include "support/kernel_test.h"

using namespace proxify;
using namespace proxify::test;

namespace {

/// A host on which there is a user `carrier`, of three groups.
struct Users {
    TempDir files;
    Users() {
        write_file(files / "passwd",
                   "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
                   "carrier:x:61000:61001::/:/bin/false\n");
        write_file(files / "group",
                   "root:x:0:\nnogroup:x:65534:\ncarriers:x:61001:\n"
                   "pipes:x:61002:carrier\nother:x:61003:\n");
    }
    Command command() const {
        return {.mounts = {{files / "passwd", "/etc/passwd"}, {files / "group", "/etc/group"}}};
    }
};

using Status = std::map<std::string, std::string>;

/// A /proc/.../status: "Uid" is "61000 61000 61000 61000".
Status read_status(const std::string& path) {
    Status status;
    for (const auto& line : lines_of(read_file(path))) {
        std::istringstream words(line.substr(line.find(':') + 1));
        std::string& value = status[line.substr(0, line.find(':'))];
        for (std::string word; words >> word;) value += (value.empty() ? "" : " ") + word;
    }
    return status;
}

std::vector<Status> threads_of(Proxify& proxify) {
    std::vector<Status> threads;
    for (const auto& thread :
         std::filesystem::directory_iterator(format("/proc/{}/task", proxify.process().pid())))
        threads.push_back(read_status(thread.path() / "status"));
    return threads;
}

std::string bits(std::initializer_list<int> capabilities) {
    uint64_t set = 0;
    for (int capability : capabilities) set |= uint64_t{1} << capability;
    return format("{:016x}", set);
}

/// Of the thread that reloads, and of those that it makes; the others have nothing or the same.
void check_threads(Proxify& proxify, const std::string& kept, const std::string& group = "61001") {
    const auto id = [](const std::string& one) { return format("{0} {0} {0} {0}", one); };
    size_t helpers = 0;
    for (auto& thread : threads_of(proxify)) {
        INFO(thread["Name"] << " " << thread["Pid"] << ", capabilities " << thread["CapPrm"]);
        CHECK(thread["Uid"] == id("61000"));
        CHECK(thread["Gid"] == id(group));
        CHECK(thread["Groups"] == (group == "61001" ? "61001 61002" : "61002 " + group));
        CHECK(thread["NoNewPrivs"] == "1");
        CHECK(thread["CapInh"] == bits({}));
        CHECK(thread["CapBnd"] == bits({}));
        CHECK(thread["CapAmb"] == bits({}));
        CHECK(thread["CapEff"] == thread["CapPrm"]);
        const bool has_none = thread["CapPrm"] == bits({});
        CHECK((thread["CapPrm"] == kept || has_none));
        helpers += has_none;
        if (thread["Pid"] == std::to_string(proxify.process().pid())) CHECK(!has_none);
    }
    CHECK(helpers == 2);  // the log and the resolver
}

std::string file(const std::string& proxify, const std::string& services) {
    return "[proxify]\nuser = \"carrier\"\n" + proxify + "\n" + services;
}

std::string web(const std::string& ports, const std::string& more = "") {
    return "[[service]]\nname = \"web\"\nports = [" + ports +
           "]\ntargets = [\"127.0.0.1:9001\"]\n"
           "health = { interval = \"20ms\", rise = 1, fall = 1 }\n" +
           more + "\n";
}

}  // namespace

TEST_CASE("with -b, every thread is the user, and none can do more than reload needs") {
    IN_NAMESPACE(ns);
    Users users;
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(
        ns,
        {.config = file("workers = 3", web("5001")), .flags = {"-b"}, .command = users.command()});
    INFO(proxify.log());
    CHECK(find_line(proxify.log(), {"carrier", "uid 61000", "keeps CAP_BPF"}));
    CHECK_FALSE(proxify.log().contains("CAP_NET_BIND_SERVICE"));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    CHECK(threads_of(proxify).size() >= 6);
    check_threads(proxify, bits({CAP_BPF}));
}

TEST_CASE("without -b, and with -b below port 1024, it keeps what binding a low port takes") {
    IN_NAMESPACE(ns);
    Users users;
    auto proxify = Proxify::start(
        ns, {.config = file("group = \"other\"", web("5001")), .command = users.command()});
    CHECK(find_line(proxify.log(), {"carrier", "gid 61003", "keeps CAP_NET_BIND_SERVICE"}));
    check_threads(proxify, bits({CAP_NET_BIND_SERVICE}), "61003");
    CHECK(proxify.stop() == 0);

    auto low = Proxify::start(
        ns,
        {.config = file("listen = 800", web("5001")), .flags = {"-b"}, .command = users.command()});
    CHECK(find_line(low.log(), {"keeps CAP_BPF and CAP_NET_BIND_SERVICE"}));
    check_threads(low, bits({CAP_BPF, CAP_NET_BIND_SERVICE}));
}

TEST_CASE("with -b every kind of reload works for the user, also with a low listener") {
    IN_NAMESPACE(ns);
    Users users;
    for (std::string listen : {"8080", "800"}) {
        INFO("listen = " << listen);
        const std::string at = "listen = " + listen + "\nworkers = ";
        std::optional<Server> blue(std::in_place, ns, "127.0.0.1:9001", answer("blue"));
        auto proxify = Proxify::start(ns, {.config = file(at + "2", web("5001, 5002")),
                                           .flags = {"-b"},
                                           .command = users.command()});

        proxify.reload(file(at + "2", web("5002, 443")));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
        CHECK(answered_by(ns, "127.0.0.1:5002") == "blue");
        CHECK(answered_by(ns, "[::1]:443") == "blue");

        proxify.reload(file(at + "2", web("5001", "deny = [\"127.0.0.0/8\"]")));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
        CHECK(answered_by(ns, "[::1]:5001") == "blue");
        proxify.reload(file(at + "2\nallow = [\"127.0.0.0/8\"]", web("5001")));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        CHECK(answered_by(ns, "[::1]:5001") == "refused");

        // A new service that needs the sink, and after that more listeners beside the sink.
        proxify.reload(file(at + "2", web("5001", "when_down = \"drop\"")));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        proxify.reload(file(at + "5", web("5001", "when_down = \"drop\"")));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
        proxify.reload(file(at + "1", web("5001", "when_down = \"drop\"")));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");

        blue.reset();
        REQUIRE(eventually([&] { return times_down(proxify.log(), "127.0.0.1:9001") == 1; }));
        CHECK(answered_by(ns, "127.0.0.1:5001", {.limit = 300ms}) == "nobody");
        blue.emplace(ns, "127.0.0.1:9001", answer("blue"));
        REQUIRE(eventually([&] { return times_up(proxify.log(), "127.0.0.1:9001") == 1; }));
        CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");

        INFO(proxify.log());
        CHECK(count_lines(proxify.log(), {"error"}) == 0);
        CHECK(proxify.stop() == 0);
        CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
        CHECK(listening(ns) == std::set<std::string>{"127.0.0.1:9001"});
    }
}

TEST_CASE("a sink that was opened by root lets the user have more workers") {
    IN_NAMESPACE(ns);
    Users users;
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    const std::string drops = web("5001", "when_down = \"drop\"");
    auto proxify = Proxify::start(
        ns, {.config = file("workers = 1", drops), .flags = {"-b"}, .command = users.command()});
    proxify.reload(file("workers = 3", drops));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
}

TEST_CASE("without -b a reload adds low ports and workers") {
    IN_NAMESPACE(ns);
    Users users;
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify = Proxify::start(
        ns, {.config = file("workers = 1", web("5001")), .command = users.command()});
    proxify.reload(file("workers = 3", web("5001, 80")));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    CHECK(answered_by(ns, "127.0.0.1:80") == "blue");
    proxify.reload(file("workers = 1", web("80")));
    eventually([&] { return answered_by(ns, "127.0.0.1:5001") == "refused"; });
    CHECK(answered_by(ns, "127.0.0.1:5001") == "refused");
    CHECK(answered_by(ns, "127.0.0.1:80") == "blue");
    CHECK(proxify.stop() == 0);
}

TEST_CASE("programs that check run as the user, and can gain nothing") {
    IN_NAMESPACE(ns);
    Users users;
    TempDir out;
    std::filesystem::permissions(out.path(), std::filesystem::perms::all);
    const std::string check = format(
        R"(health = {{ type = "exec", command = ["/bin/cp", "/proc/self/status", "{}/status"] }})",
        out.path().string());
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    auto proxify =
        Proxify::start(ns, {.config = file("",
                                           "[[service]]\nname = \"web\"\nports = [5001]\ntargets = "
                                           "[\"127.0.0.1:9001\"]\n" +
                                               check + "\n"),
                            .flags = {"-b"},
                            .command = users.command()});
    Status status;
    REQUIRE(eventually([&] {
        if (!std::filesystem::exists(out / "status")) return false;
        status = read_status(out / "status");
        return status.contains("NoNewPrivs");
    }));
    CHECK(status["Uid"] == "61000 61000 61000 61000");
    CHECK(status["Groups"] == "61001 61002");
    CHECK(status["NoNewPrivs"] == "1");
    for (const char* set : {"CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb"})
        CHECK(status[set] == bits({}));
}

TEST_CASE("a user that cannot be is a sentence, and nothing starts") {
    IN_NAMESPACE(ns);
    Users users;
    auto refusal = [&](const std::string& keys, Command command) {
        Finished refused = Proxify::refuse(
            ns, {.config = "[proxify]\n" + keys + "\n" + web("5001"), .command = command});
        CHECK(refused.exit_code == 1);
        return refused.err;
    };
    CHECK(refusal("user = \"karrier\"", users.command()).contains("no user \"karrier\""));
    CHECK(refusal("user = \"carrier\"\ngroup = \"nosuch\"", users.command())
              .contains("no group \"nosuch\""));
    CHECK(refusal("user = \"root\"", users.command()).contains("is root"));
    Command as_nobody = users.command();
    as_nobody.user = nobody;
    CHECK(refusal("user = \"carrier\"", as_nobody).contains("not started as root"));
    for (int capability : {CAP_SETUID, CAP_SETGID, CAP_SETPCAP, CAP_CHOWN}) {
        Command without = users.command();
        without.without_capabilities = {capability};
        CHECK(
            refusal("user = \"carrier\"", without).contains("CAP_SETUID, CAP_SETGID, CAP_SETPCAP"));
    }
}

TEST_CASE("root with the capabilities that the unit file names can steer and become the user") {
    IN_NAMESPACE(ns);
    Users users;
    Command command = users.command();
    for (int capability = 0; capability <= CAP_LAST_CAP; ++capability)
        if (capability != CAP_BPF && capability != CAP_NET_ADMIN &&
            capability != CAP_NET_BIND_SERVICE && capability != CAP_CHOWN &&
            capability != CAP_SETUID && capability != CAP_SETGID && capability != CAP_SETPCAP)
            command.without_capabilities.push_back(capability);
    auto proxify =
        Proxify::start(ns, {.config = file("", web("5001")), .flags = {"-b"}, .command = command});
    check_threads(proxify, bits({CAP_BPF}));
}

TEST_CASE("capabilities that an ordinary user was given stay with proxify") {
    IN_NAMESPACE(ns);
    NEEDS_PROGRAM("setpriv");
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    TempDir out;
    std::filesystem::permissions(out.path(), std::filesystem::perms::all);
    std::filesystem::copy_file(proxify_binary(), out / "proxify");
    write_file(out / "targets.toml",
               format("[proxify]\nuser = \"nobody\"\n[[service]]\nname = \"web\"\nports = [5001]\n"
                      "targets = [\"127.0.0.1:9001\"]\nhealth = {{ type = \"exec\", command = "
                      "[\"/bin/cp\", \"/proc/self/status\", \"{}/status\"] }}\n",
                      out.path().string()));
    const std::string given = "+bpf,+net_admin,+net_bind_service";
    Child proxify = Child::start({.argv = {"setpriv", "--reuid=65534", "--regid=65534",
                                           "--clear-groups", "--inh-caps=-all," + given,
                                           "--ambient-caps=-all," + given, out / "proxify", "-b"},
                                  .inside = &ns,
                                  .directory = out.path()});
    REQUIRE(eventually([&] { return is_ready(proxify.err()); }));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
    Status status;
    REQUIRE(eventually([&] {
        if (!std::filesystem::exists(out / "status")) return false;
        status = read_status(out / "status");
        return status.contains("NoNewPrivs");
    }));
    CHECK(status["Uid"] == "65534 65534 65534 65534");
    for (const char* set : {"CapPrm", "CapEff", "CapAmb"}) CHECK(status[set] == bits({}));
    proxify.signal(SIGTERM);
    CHECK(proxify.wait(10s) == 0);
}

TEST_CASE("who is the user already has nothing to become") {
    IN_NAMESPACE(ns);
    Users users;
    Server blue(ns, "127.0.0.1:9001", answer("blue"));
    Command as_nobody = users.command();
    as_nobody.user = nobody;
    auto proxify = Proxify::start(
        ns, {.config = "[proxify]\nuser = \"nobody\"\n" + web("5001"), .command = as_nobody});
    CHECK(find_line(proxify.log(), {"nobody", "since its start"}));
    CHECK(answered_by(ns, "127.0.0.1:5001") == "blue");
}

TEST_CASE("another user takes a restart") {
    IN_NAMESPACE(ns);
    Users users;
    auto proxify =
        Proxify::start(ns, {.config = file("", web("5001")), .command = users.command()});
    for (std::string keys : {"user = \"nobody\"", "", "user = \"carrier\"\ngroup = \"other\""}) {
        const int before = reloads_refused(proxify.log());
        // The same refusal is said once, so the file differs in something else too.
        replace_file(proxify.config_path(), "[proxify]\n" + keys + "\n" + web("5001"));
        proxify.process().signal(SIGHUP);
        REQUIRE(eventually([&] { return reloads_refused(proxify.log()) > before; }));
    }
    CHECK(find_line(proxify.log(), {"user or group changed", "restart"}));
}

TEST_CASE("a file that the user cannot read or watch is said at the start") {
    IN_NAMESPACE(ns);
    Users users;
    TempDir hidden;
    // Only root gets there.
    std::filesystem::permissions(hidden.path(), std::filesystem::perms::owner_all);
    write_file(hidden / "targets.toml", file("", web("5001")));
    auto proxify = Proxify::start(
        ns, {.config = "", .flags = {"-c", hidden / "targets.toml"}, .command = users.command()});
    INFO(proxify.log());
    CHECK(find_line(proxify.log(), {"warn", "carrier cannot read", "Permission denied"}));
    CHECK(find_line(proxify.log(), {"warn", "carrier may not watch"}));
    CHECK(proxify.stop() == 0);

    auto open = Proxify::start(ns, {.config = file("", web("5001")), .command = users.command()});
    CHECK_FALSE(open.log().contains("carrier cannot read"));
    CHECK_FALSE(open.log().contains("carrier may not watch"));
}
