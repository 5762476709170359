// SPDX-License-Identifier: Apache-2.0
// What an element of a service costs, one at a time, beside the same service without any; and what
// a cache saves. All are set so that they let everything through as it came: what is measured is
// the way through an element, and the load wants its own bytes back.
#include <fstream>

#include "base/format.h"
#include "runner/work.h"

namespace proxify::bench {

namespace {

struct Kind {
    const char* id;
    const char* title;
    const char* keys;
};

// One in 256 messages ends in what may be the beginning of what is replaced, and is held: for a
// moment only, or most connections would be waiting instead of doing what is measured.
constexpr Kind kinds[] = {
    {"none", "none", ""},
    {"copy", "none, but copied", "relay = \"copy\"\n"},
    {"count", "count", "filters = [{ type = \"count\" }]\n"},
    {"replace", "replace, no hit",
     "filters = [{ type = \"replace\", find = \"not to be found\", with = \"found\", "
     "hold = \"1ms\" }]\n"},
    {"match", "match, no hit", "filters = [{ type = \"match\", pattern = \"not to be found\" }]\n"},
    {"log", "log, not shown", "filters = [{ type = \"log\", level = \"debug\" }]\n"},
    {"rate", "rate, never reached", "filters = [{ type = \"rate\", bytes = \"1024GiB\" }]\n"},
    {"lua-pass", "lua, passes", "filters = [{ type = \"lua\", script = \"pass.lua\" }]\n"},
    {"lua-upper", "lua, upper", "filters = [{ type = \"lua\", script = \"upper.lua\" }]\n"},
};

/// Beside the config file, which names them.
void write_scripts(const World& world) {
    std::ofstream(world.folder + "/pass.lua") << "local function pass(chunk) end\n"
                                                 "return { to_target = pass, to_client = pass }\n";
    // It does the work of writing a chunk in capitals, and sends another chunk on: the old one.
    std::ofstream(world.folder + "/upper.lua")
        << "local function upper(chunk)\n"
           "  local capitals = chunk:upper()\n"
           "  return #capitals == #chunk and chunk or capitals\n"
           "end\n"
           "return { to_target = upper, to_client = upper }\n";
}

/// False, and said beside each row, when this proxify does not know the keys.
bool takes(Context& context, const Work& work, const Subject& who, const std::string& keys) {
    if (keys.empty() || proxify_takes(context.world, "service", keys)) return true;
    for (const auto& row : work.rows) context.results.note(row, who.id, "no such setting");
    return false;
}

Result<> go_through(Context& context, const Work& work, const Subject& who, const Kind& kind) {
    if (who.id != "proxify") return {};
    write_scripts(context.world);
    if (!takes(context, work, who, kind.keys)) return {};
    TRY_TO(stage, Stage::set(context.world, who, {.pinned = work.pinned, .keys = kind.keys}));
    auto add = [&](size_t row, const char* metric, double value) {
        context.results.add(work.rows[row], who.id, metric, value);
    };
    TRY_TO(ping, run_load(context, stage, {"ping", "--size", "64", "--connections", "50"},
                          stage.echo_address()));
    add(0, "rate", number_in(ping, "rate"));
    add(0, "cpu", number_in(ping, "watched_cpu_s") / number_in(ping, "exchanges"));
    add(0, "p50", number_in(ping, "p50_us"));
    TRY_TO(bulk, run_load(context, stage, {"bulk", "--connections", "4", "--down"},
                          stage.bulk_address()));
    if (number_in(bulk, "bytes") == 0)
        return fail(Error::of("no byte moved while it was measured"));
    constexpr double gibibyte = 1 << 30;
    add(1, "gbit", number_in(bulk, "gbit"));
    add(1, "cpu", number_in(bulk, "watched_cpu_s") / (number_in(bulk, "bytes") / gibibyte));
    return stage.strike();
}

/// Everybody asks the same, so with a cache all but the first are answered from memory.
Result<> ask(Context& context, const Work& work, const Subject& who, const std::string& keys) {
    if (who.id != "proxify" || !takes(context, work, who, keys)) return {};
    TRY_TO(stage, Stage::set(context.world, who,
                             {.pinned = work.pinned, .has_bulk = false, .keys = keys}));
    TRY_TO(line, run_load(context, stage, {"connect", "--same", "--connections", "50"},
                          stage.echo_address()));
    TRY(stage.strike());
    auto add = [&](const char* metric, double value) {
        context.results.add(work.rows[0], who.id, metric, value);
    };
    add("rate", number_in(line, "rate"));
    add("served", number_in(line, "connections") / number_in(line, "watched_cpu_s"));
    add("target", number_in(line, "beside_cpu_s") / number_in(line, "connections"));
    add("p50", number_in(line, "p50_us"));
    return {};
}

}  // namespace

void add_elements(std::vector<Work>& works) {
    const std::string group = "elements";
    for (const auto& kind : kinds) {
        works.push_back({group,
                         true,
                         {{format("elements-ping-{}", kind.id), "elements-ping", kind.title, true,
                           "elements-ping-none"},
                          {format("elements-bulk-{}", kind.id), "elements-bulk", kind.title, true,
                           "elements-bulk-none"}},
                         [=](Context& context, const Work& work, const Subject& who) {
                             return go_through(context, work, who, kind);
                         }});
    }
    // Who waits for a port to answer asks without an end, and should not have to wait for long.
    const std::string cache = "cache = { ttl = \"1h\", request_timeout = \"100ms\" }\n";
    for (const auto& [id, title, keys] : {std::tuple{"plain", "asks the target", std::string()},
                                          std::tuple{"hit", "answered from memory", cache}}) {
        works.push_back({group,
                         true,
                         {{format("elements-cache-{}", id), "elements-cache", title, true,
                           "elements-cache-plain"}},
                         [=](Context& context, const Work& work, const Subject& who) {
                             return ask(context, work, who, keys);
                         }});
    }
}

}  // namespace proxify::bench
