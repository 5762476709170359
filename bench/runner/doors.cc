// SPDX-License-Identifier: Apache-2.0
// The doors of proxify, one by one, with the same clients, the same address that they dial and the
// same target behind: only the way in differs. Beside proxify's own CPU time stands that of load,
// target and proxify together, because most of what a door does happens in the call of whoever
// sends the packet: a rule of OUTPUT and the program at connect() in the client's, and over a veth
// pair also what the host of proxify does with packets that come in.
#include <unistd.h>

#include "base/format.h"
#include "runner/work.h"

namespace proxify::bench {

namespace {

struct Door {
    const char* id;
    const char* title;
    Way way;
    bool steers = false;
    bool needs_nft = false;
};

/// proxify writes the rule itself. Connections that carry its mark go their way.
std::string redirect_rule(const char* which) {
    return format("\"$PROXIFY\" redirect rules add --ports {} --to 15002 --only {}", echo_port,
                  which);
}

/// As docs/captures.md has them.
std::string tproxy_rules() {
    return format(R"(nft -f - <<'END'
table inet divert {{
    chain prerouting {{
        type filter hook prerouting priority mangle;
        meta l4proto tcp socket transparent 1 meta mark set 1 accept
        tcp dport {} tproxy to :15003 meta mark set 1 accept
    }}
}}
END
ip rule add fwmark 1 lookup 100
ip route add local 0.0.0.0/0 dev lo table 100
)",
                  echo_port);
}

std::vector<Door> all_doors() {
    constexpr uint16_t other_port = 9000;
    const std::string redirect = "type = \"redirect\"\nports = [15002]\nservice = \"echo\"\n";
    const std::string ingress = format("type = \"ingress\"\nports = [{}]\n", echo_port);
    return {
        {"local-listener", "local, listener", {.own_port = echo_port}},
        {"local-steering", "local, steering", {.own_port = echo_port}, true},
        {"local-connect",
         "local, connect",
         {.in_cgroup = true,
          .capture = format("type = \"connect\"\ncidr = [\"{}:{}\"]\nservice = \"echo\"\n",
                            way_address, echo_port)}},
        {"local-redirect",
         "local, redirect (OUTPUT)",
         {.capture = redirect, .rules = redirect_rule("leaving")},
         false,
         true},
        {"remote-listener", "remote, listener", {.is_remote = true, .own_port = echo_port}},
        {"remote-steering", "remote, steering", {.is_remote = true, .own_port = echo_port}, true},
        {"remote-ingress",
         "remote, ingress",
         {.is_remote = true, .capture = ingress + "service = \"echo\"\n"}},
        {"remote-rewrite",
         "remote, ingress with to_port",
         {.is_remote = true,
          .own_port = other_port,
          .capture = ingress + format("to_port = {}\n", other_port)}},
        {"remote-tproxy",
         "remote, tproxy",
         {.is_remote = true,
          .capture = "type = \"tproxy\"\nports = [15003]\nservice = \"echo\"\n",
          .rules = tproxy_rules()},
         false,
         true},
        {"remote-redirect",
         "remote, redirect (PREROUTING)",
         {.is_remote = true, .capture = redirect, .rules = redirect_rule("arriving")},
         false,
         true},
    };
}

bool is_there(const char* name) {
    for (const char* folder : {"/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"}) {
        if (access((std::string(folder) + name).c_str(), X_OK) == 0) return true;
    }
    return false;
}

/// What this machine, or the proxify that is measured, lacks for a door; empty: nothing.
std::string missing_for(const World& world, const Door& door) {
    if (!is_there("ip")) return "needs ip of iproute2";
    if (door.needs_nft && !is_there("nft")) return "needs nft";
    if (door.way.in_cgroup && world.cgroup.empty()) return "needs cgroup2";
    if (!door.way.capture.empty() &&
        !proxify_takes(world, "service",
                       "[[capture]]\ntype = \"redirect\"\nports = [15002]\nservice = \"a\""))
        return "no such setting";
    return {};
}

Result<> come_in(Context& context, const Work& work, const Subject& who, const Door& door) {
    if (who.id != "proxify") return {};
    if (auto missing = missing_for(context.world, door); !missing.empty()) {
        for (const auto& row : work.rows) context.results.note(row, who.id, missing);
        return {};
    }
    TRY_TO(stage, Stage::set(context.world, subject(door.steers ? "proxify-b" : "proxify"),
                             {.pinned = work.pinned, .has_bulk = false, .way = door.way}));
    const std::vector<std::string> loads[] = {{"connect", "--connections", "50"},
                                              {"ping", "--size", "64", "--connections", "50"}};
    const char* counts[] = {"connections", "exchanges"};
    for (size_t i = 0; i < std::size(loads); ++i) {
        TRY_TO(line, run_load(context, stage, loads[i], stage.echo_address()));
        auto add = [&](const char* metric, double value) {
            context.results.add(work.rows[i], who.id, metric, value);
        };
        double count = number_in(line, counts[i]), own = number_in(line, "watched_cpu_s");
        add("rate", number_in(line, "rate"));
        add("cpu", own / count);
        add("all", (own + number_in(line, "load_cpu_s") + number_in(line, "beside_cpu_s")) / count);
        add("p50", number_in(line, "p50_us"));
    }
    return stage.strike();
}

}  // namespace

void add_doors(std::vector<Work>& works) {
    std::string base;
    for (const auto& door : all_doors()) {
        // The listener comes first among the doors of the same clients.
        if (std::string(door.id).ends_with("listener")) base = door.id;
        works.push_back({"doors",
                         true,
                         {{format("doors-{}", door.id), "doors", door.title, true, "doors-" + base},
                          {format("doors-ping-{}", door.id), "doors-ping", door.title, true,
                           "doors-ping-" + base}},
                         [=](Context& context, const Work& work, const Subject& who) {
                             return come_in(context, work, who, door);
                         }});
    }
}

}  // namespace proxify::bench
