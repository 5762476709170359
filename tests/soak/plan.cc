// SPDX-License-Identifier: Apache-2.0
#include "soak/plan.h"

namespace proxify::test::soak {

PortBlock ports_of(Family family) {
    switch (family) {
        case Family::steady:
            return {5000, 10};
        case Family::shifting:
            return {5100, 50};
        case Family::greeted:
            return {5200, 5};
        case Family::fragile:
            return {5300, 5};
        case Family::mirrored:
            return {5400, 4};
        case Family::by_hand:
            return {5900, 10};
        case Family::wide:
            break;
    }
    return {10'000, 2'000};
}

static Family any_family(Random& random) {
    const uint64_t at = random.below(100);
    return at < 40   ? Family::steady
           : at < 65 ? Family::shifting
           : at < 75 ? Family::wide
           : at < 85 ? Family::greeted
           : at < 92 ? Family::fragile
           : at < 96 ? Family::mirrored
                     : Family::by_hand;
}

static void be_short(Plan& plan, Random& random) {
    plan.up = random.any_size(4 << 10);
    plan.down = random.any_size(32 << 10);
}

static void be_long_with_pauses(Plan& plan, Random& random) {
    plan.up = random.between(0, 40 << 10);
    plan.down = random.between(0, 40 << 10);
    for (Manner* manner : {&plan.client, &plan.target}) {
        manner->chunk_max = 8 << 10;
        manner->pause_percent = 40;
        manner->pause_max = Millis(random.between(50, 800));
    }
}

static void be_bulk(Plan& plan, Random& random) {
    const uint64_t most = 16 << 20, way = random.below(3);
    plan.up = way == 0 ? random.any_size(64 << 10) : random.between(1 << 20, most);
    plan.down = way == 1 ? random.any_size(64 << 10) : random.between(1 << 20, most);
    for (Manner* manner : {&plan.client, &plan.target}) {
        manner->chunk_max = 256 << 10;
        manner->pause_percent = random.chance(50) ? 0 : 1;
    }
}

static void be_half_closed(Plan& plan, Random& random) {
    plan.up = random.any_size(1 << 20);
    plan.down = random.any_size(1 << 20);
    (random.chance(70) ? plan.target : plan.client).speaks_last = true;
}

static void be_slow(Plan& plan, Random& random) {
    const bool client_is = random.chance(60);
    plan.up = random.any_size(client_is ? 64 << 10 : 6 << 20);
    plan.down = random.any_size(client_is ? 6 << 20 : 64 << 10);
    Manner& slow = client_is ? plan.client : plan.target;
    slow.stalls_after = random.any_size(client_is ? plan.down : plan.up);
    slow.stall = Millis(random.between(300, 4000));
    // Below the 64 KiB that loopback sends at once, each window would wait for a timer of the
    // kernel.
    if (random.chance(50))
        slow.receive_buffer = static_cast<int>(random.between(128 << 10, 512 << 10));
    for (Manner* manner : {&plan.client, &plan.target}) manner->chunk_max = 128 << 10;
}

/// Such a connection can only end by a cut.
static void be_deaf(Plan& plan, Random& random) {
    const bool client_is = random.chance(70);
    (client_is ? plan.down : plan.up) = random.between(1 << 20, 16 << 20);
    (client_is ? plan.up : plan.down) = random.any_size(64 << 10);
    Manner& deaf = client_is ? plan.client : plan.target;
    deaf.never_reads = true;
    deaf.cut = {.how = random.chance(50) ? Cut::How::reset : Cut::How::close,
                .after = Millis(random.between(200, 6000))};
    for (Manner* manner : {&plan.client, &plan.target}) manner->chunk_max = 128 << 10;
}

static void cut_somewhere(Manner& manner, const Plan& plan, Random& random) {
    if (manner.cut.how != Cut::How::never) return;
    manner.cut.how = random.chance(70) ? Cut::How::reset : Cut::How::close;
    if (random.chance(60))
        manner.cut.after_bytes = random.any_size(plan.up + plan.down);
    else
        manner.cut.after = Millis(random.any_size(5000));
}

Plan Plan::drawn(uint64_t seed, uint64_t number) {
    Random random(seed, number);
    Plan plan{.number = number};
    // Mostly one after the other, and now and then forty at once.
    plan.delay = Millis(number / 40 % 12 == 5 ? 0 : random.below(21));
    plan.family = any_family(random);
    const PortBlock ports = ports_of(plan.family);
    plan.port = static_cast<uint16_t>(ports.first + random.below(ports.count));
    plan.address = (random.chance(75) ? "127.0.0.1:" : "[::1]:") + std::to_string(plan.port);

    const uint64_t kind = random.below(100);
    if (kind < 48)
        be_short(plan, random);
    else if (kind < 60)
        be_long_with_pauses(plan, random);
    else if (kind < 67)
        be_bulk(plan, random);
    else if (kind < 79)
        be_half_closed(plan, random);
    else if (kind < 89)
        be_slow(plan, random);
    else if (kind < 93)
        be_deaf(plan, random);
    else if (kind < 97 || plan.family == Family::greeted)
        be_short(plan, random), plan.down = 0;
    else
        plan.silent = true;

    if (random.chance(12)) cut_somewhere(plan.client, plan, random);
    if (random.chance(8)) cut_somewhere(plan.target, plan, random);
    return plan;
}

}  // namespace proxify::test::soak
