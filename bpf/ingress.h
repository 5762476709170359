/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the ingress programs and their user space agree on. Plain C, included by both sides, so that
 * no struct is written twice.
 *
 * Two things can become of a connection that comes in by a network interface and dials a port that
 * is captured. Either it goes to a listener of ours and sees nothing changed: the port it dialled
 * is the port of its socket. Or it is rewritten, which makes it a *flow*: its packets get another
 * destination port on the way in, where another program listens, and the answers get the dialled
 * port back on the way out. For a client C:5000 that dials port 8000 of H, which is rewritten to
 * 9000:
 *
 *   ingress_flows     C:5000 H:8000  ->  9000        for what comes in
 *   ingress_answers   C:5000 H:9000  ->  8000        for what goes out
 *
 * Both have the whole 4-tuple as their key, so whoever dials 9000 directly is left alone.
 */
#ifndef PROXIFY_INGRESS_H
#define PROXIFY_INGRESS_H

#include <linux/types.h>

/* Every port number has a place: a table that can be full would be a trap. */
#define INGRESS_PORTS_MAX 65536

/* Listeners of ours; one for each configured `listen`. */
#define INGRESS_LISTENERS_MAX 256

/*
 * Flows that are remembered. When there are more, those that have been silent for the longest are
 * forgotten, and their clients get a reset.
 */
#define INGRESS_FLOWS_MAX 65536

/* What becomes of a port. Eight bytes, written at once. */
struct ingress_port {
    __u16 to_port;  /* host byte order; of INGRESS_REWRITE */
    __u16 listener; /* its place in ingress_listeners; of INGRESS_LISTEN */
    __u8 flags;     /* enum ingress_port_flag */
    __u8 scope; /* 0: at every interface; else new connections come in by those of ingress_scopes */
    __u8 zero[2];
};
enum ingress_port_flag {
    INGRESS_LISTEN = 1,  /* new connections go to a listener of ours */
    INGRESS_REWRITE = 2, /* new connections become flows to to_port */
    INGRESS_FLOWS = 4,   /* there may be flows of this port, from now or from before */
    INGRESS_ANSWERS = 8, /* flows lead, or led, to this port */
};
_Static_assert(sizeof(struct ingress_port) == 8, "both sides must see the same value");

/* Interfaces at which ports of a scope are captured. */
#define INGRESS_SCOPES_MAX 65536
struct ingress_scope {
    __u32 interface;
    __u32 scope;
};
_Static_assert(sizeof(struct ingress_scope) == 8, "both sides must see the same key");

/* IPv4 addresses are v4-mapped, ::ffff:198.51.100.7. */
struct ingress_tuple {
    __u8 client[16]; /* network byte order */
    __u8 host[16];
    __be16 client_port_be;
    __be16 host_port_be;
};
_Static_assert(sizeof(struct ingress_tuple) == 36, "both sides must see the same key");

struct ingress_flow {
    __be16 port_be; /* that takes the place of the key's host_port_be */
    __u16 zero;
    __be32 syn_be; /* sequence number of the SYN that was rewritten last */
};
_Static_assert(sizeof(struct ingress_flow) == 8, "both sides must see the same value");

/*
 * One counter for each way the programs can answer for a port of ours, with the words that explain
 * it. SYNs are counted once for each time they are sent; `rewritten_` counts packets.
 */
#define INGRESS_COUNTERS(X)                                                              \
    X(assigned, "a new connection was handed to our listener")                           \
    X(flows, "a new connection was rewritten to another port")                           \
    X(rewritten_in, "a packet of a flow got the other port")                             \
    X(rewritten_out, "an answer of a flow got the dialled port back")                    \
    X(rewritten_error, "an ICMP error about an answer of a flow got the other port")     \
    X(passed_forwarded, "passed on, for it is for another host")                         \
    X(passed_has_socket, "passed on, for a socket has this connection already")          \
    X(passed_no_listener, "passed on, for proxify's listener was gone")                  \
    X(passed_not_assigned, "passed on, for the kernel did not take our listener")        \
    X(passed_no_flow, "passed on, for it belongs to no flow: from before, or forwarded") \
    X(passed_no_room, "passed on, for the kernel had no room for another flow")          \
    X(passed_not_written, "passed on, for the kernel did not let the packet be changed") \
    X(passed_fragment, "passed on, for it is a fragment")                                \
    X(dropped_same_client,                                                               \
      "a SYN was dropped, for the same address and port of the client is in use there")

enum ingress_counter {
#define INGRESS_COUNTER_INDEX(name, meaning) INGRESS_##name,
    INGRESS_COUNTERS(INGRESS_COUNTER_INDEX) INGRESS_COUNTERS_MAX,
};
#undef INGRESS_COUNTER_INDEX

#endif
