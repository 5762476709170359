/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the steering program and its user space agree on. Plain C, included by both sides, so that
 * no struct is written twice.
 *
 * Two maps are also a contract with people, who type into them:
 *
 *   proxy_ports   HASH     key: port, 2 bytes, host byte order      value: 1 byte, 0
 *   proxy_sock    SOCKMAP  key: 4 bytes, 0                          value: 8 bytes, the listener
 *
 *     bpftool map update id N key 0x07 0x00 value 0x00      opens port 7, at once
 *     bpftool map delete id N key 0x89 0x13                 closes port 5001 (0x1389)
 *
 * Their keys, values and names never change; anything richer goes into a map of its own.
 */
#ifndef PROXIFY_CONTRACT_H
#define PROXIFY_CONTRACT_H

#include <linux/types.h>

/* Every port number has a place: a table that can be full would be a trap. */
#define STEER_PORTS_MAX 65536

/* Own dials last from bind() to the end of connect(); so many can be under way at a time. */
#define STEER_OWN_DIALS_MAX 16384

/* A dial of proxify itself, known by the address and port it comes from. */
struct steer_dial {
    __u8 address[16]; /* network byte order; IPv4 is v4-mapped, ::ffff:10.0.0.7 */
    __be16 port_be;
    __u16 zero; /* padding; keys are compared as bytes, so it has to be 0 */
};
_Static_assert(sizeof(struct steer_dial) == 20, "both sides must see the same key");

/*
 * One counter for each way the program can answer for a port of ours, with the words that explain
 * it. It counts lookups, which are SYNs, and now and then the ACK that answers a SYN cookie.
 * Ports that are not ours cost one map lookup and are not counted.
 */
#define STEER_COUNTERS(X)                                                             \
    X(steered, "handed to the listener")                                              \
    X(passed_own_dial, "proxify's own dial, passed on to the local listener")         \
    X(passed_no_listener, "passed on, for proxify's listener was gone")               \
    X(passed_already_selected, "another sk_lookup program had chosen a socket first") \
    X(passed_other_family, "an IPv6 client, and the listener is IPv4 only")           \
    X(passed_not_assigned, "the kernel did not take our listener, for another reason")

enum steer_counter {
#define STEER_COUNTER_INDEX(name, meaning) STEER_##name,
    STEER_COUNTERS(STEER_COUNTER_INDEX) STEER_COUNTERS_MAX,
};
#undef STEER_COUNTER_INDEX

#endif
