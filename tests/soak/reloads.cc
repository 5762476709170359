// SPDX-License-Identifier: Apache-2.0
#include "soak/reloads.h"

#include "base/format.h"
#include "support/process.h"
#include "support/temp_dir.h"

namespace proxify::test::soak {

// A port has changed hands when the log says so, and that takes no longer than this.
static constexpr Millis heed_limit = 20s;

// Listeners are kept when workers go, so a run begins with as many as it will ever have.
static constexpr int workers_max = 3;

Reloads::Reloads(const Namespace& where, std::string path, uint64_t seed)
    : where_(where), path_(std::move(path)) {
    has_bpftool_ = run({.argv = {"sh", "-c", "command -v bpftool"}}).exit_code == 0;
    Random random(seed, UINT64_MAX);
    good_ = draw(random);
    write_file(path_, good_);
    running_ = next_;
}

std::vector<std::string> Reloads::services_of(Family family) {
    switch (family) {
        case Family::steady:
        case Family::by_hand:
            return {"steady"};
        case Family::shifting:
            return {"shift-a", "shift-b"};
        case Family::wide:
            return {"wide"};
        case Family::greeted:
            return {"greeted"};
        case Family::fragile:
            return {"fragile"};
        case Family::mirrored:
            return {"mirrored"};
    }
    return {};
}

namespace {

/// Targets that speak when they are spoken to: one that never dies, and some that do.
std::string any_targets(Random& random) {
    std::string list = random.chance(50) ? "\"127.0.0.1:9001\"" : "\"127.0.0.1:9005\"";
    for (const char* mortal : {"127.0.0.1:9002", "[::1]:9003", "127.0.0.1:9004"}) {
        if (random.chance(50)) continue;
        const std::string written = format("\"{}\"", mortal);
        list = random.chance(50) ? list + ", " + written : written + ", " + list;
    }
    return list;
}

std::string service(const std::string& name, const std::string& ports, const std::string& targets,
                    const std::string& more = "") {
    return format(
        "\n[[service]]\nname    = \"{}\"\nports   = [{}]\ntargets = [{}]\ntries   = 10\n"
        "health  = {{ interval = \"200ms\", rise = 1, fall = 2 }}\n{}",
        name, ports, targets, more);
}

std::string all_of(PortBlock block) {
    return format("\"{}-{}\"", block.first, block.first + block.count - 1);
}

}  // namespace

std::string Reloads::draw(Random& random) {
    ++generation_;
    next_.reset();
    auto open = [this](PortBlock block) {
        for (uint16_t i = 0; i < block.count; ++i) next_.set(block.first + i);
        return all_of(block);
    };
    // No two files are the same, so that each is heeded with a line in the log.
    std::string text = format(
        "[proxify]\ndefault_service = \"steady\"\nresolve_interval = \"{}ms\"\nworkers = {}\n"
        "[log]\nformat = \"json\"\n",
        30'000 + generation_, generation_ == 1 ? workers_max : random.between(1, workers_max));
    text += service("steady", open(ports_of(Family::steady)), any_targets(random));
    text +=
        service("greeted", open(ports_of(Family::greeted)), "\"127.0.0.1:9011\", \"[::1]:9012\"");
    text += service("fragile", open(ports_of(Family::fragile)), "\"127.0.0.1:9021\"",
                    "timeouts = { connect = \"2s\" }\n");
    text += service("mirrored", open(ports_of(Family::mirrored)), "\"127.0.0.1:+4000\"");

    std::string a, b;
    const PortBlock shifting = ports_of(Family::shifting);
    const unsigned closed = static_cast<unsigned>(random.between(0, 40));
    for (uint16_t port = shifting.first; shifting.has(port); ++port) {
        if (random.chance(closed)) continue;
        (random.chance(50) ? a : b) += format("{}, ", port);
        next_.set(port);
    }
    if (!a.empty()) text += service("shift-a", a, any_targets(random));
    if (!b.empty()) text += service("shift-b", b, any_targets(random));

    PortBlock wide = ports_of(Family::wide);
    wide.count = static_cast<uint16_t>(random.below(wide.count + 1u));
    if (wide.count > 0) text += service("wide", open(wide), any_targets(random));
    return text;
}

void Reloads::write(const std::string& text, Random& random) {
    // As different editors do it.
    in_place_ = random.chance(30);
    in_place_ ? write_file(path_, text) : replace_file(path_, text);
    since_ = now();
}

void Reloads::edit_well(Random& random) {
    if (is_waiting()) return;
    good_ = draw(random);
    write(good_, random);
    waiting_for_ = Waiting::applied;
}

void Reloads::edit_badly(Random& random) {
    if (is_waiting()) return;
    ++generation_;
    std::string text = good_;
    switch (random.below(4)) {
        case 0:
            // Somewhere else each time: it is the only mistake that is reported then.
            text.resize(text.size() / 2 - generation_ % 64);
            break;
        case 1:
            text += service("double", all_of(ports_of(Family::steady)), any_targets(random));
            break;
        case 2:
            text += service("nowhere", "7", "\"127.0.0.1\"");
            break;
        case 3:
            text.clear();
            break;
    }
    // Whatever else is wrong with it: the same refusal twice would be logged once.
    write(format("mistake-{} = true\n", generation_) + text, random);
    waiting_for_ = Waiting::refused;
    was_bad_ = true;
}

void Reloads::turn_a_port_by_hand(Random& random, const KernelIds& ids) {
    const PortBlock block = ports_of(Family::by_hand);
    const unsigned port = block.first + static_cast<unsigned>(random.below(block.count));
    if (!has_bpftool_) return;
    const bool opens = !opened_by_hand_[port];
    const Finished turned = run_line(
        where_, format("bpftool map {} id {} key 0x{:02x} 0x{:02x}{}", opens ? "update" : "delete",
                       ids.proxy_ports, port & 0xff, port >> 8, opens ? " value 0x00" : ""));
    if (turned.exit_code != 0) throw std::runtime_error("bpftool: " + turned.out + turned.err);
    opened_by_hand_[port] = opens;
    ++by_hand_;
}

void Reloads::look(const Journal& journal, Moment at, std::vector<std::string>& problems) {
    const bool was_applied =
        journal.reloads_applied() > std::exchange(applied_, journal.reloads_applied());
    const bool was_refused =
        journal.reloads_refused() > std::exchange(refused_, journal.reloads_refused());
    if (was_applied && waiting_for_ == Waiting::applied) {
        running_ = next_;
        waiting_for_ = Waiting::nothing;
        was_bad_ = false;
    } else if (was_refused && waiting_for_ == Waiting::refused) {
        waiting_for_ = Waiting::nothing;
    } else if (was_refused && (was_bad_ || (in_place_ && is_waiting()))) {
        // SIGHUP asked for it again. Or the file was read between being emptied and being written.
    } else if (was_refused) {
        problems.push_back("a good file was refused: " + journal.last_refusal());
    } else if (was_applied) {
        problems.push_back("a reload was applied that nobody asked for");
    } else if (is_waiting() && at - since_ > heed_limit) {
        problems.push_back(format("file {} was neither applied nor refused", generation_));
        waiting_for_ = Waiting::nothing;
    }
}

PortState Reloads::state(uint16_t port) const {
    if (opened_by_hand_[port]) return PortState::open;
    if (waiting_for_ == Waiting::applied && running_[port] != next_[port])
        return PortState::changing;
    return running_[port] ? PortState::open : PortState::closed;
}

}  // namespace proxify::test::soak
