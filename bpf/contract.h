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

/* Services are numbered from 1; number 0 is for ports that were added by hand. */
#define STEER_SERVICES_MAX 65536

/* Services beyond this are counted together, as number 0: a per-CPU counter costs every CPU. */
#define STEER_COUNTED_SERVICES_MAX 8192

/* Prefixes in one access list. Memory is taken for those that are there only. */
#define STEER_PREFIXES_MAX (4 << 20)

/* Sources whose rate is known, and their connections that began a moment ago. */
#define STEER_SOURCES_MAX 65536
#define STEER_RECENT_MAX 65536

/* A client's end, or our own. IPv4 addresses are v4-mapped, ::ffff:10.0.0.7. */
struct steer_end {
    __u8 address[16]; /* network byte order */
    __be16 port_be;
    __u16 zero; /* padding; keys are compared as bytes, so it has to be 0 */
};
_Static_assert(sizeof(struct steer_end) == 20, "both sides must see the same key");

/* What the program knows of a port that is in proxy_ports. */
struct steer_port {
    __u16 service; /* whose it is, when no address says otherwise */
    __u8 flags;    /* enum steer_port_flag */
    __u8 zero;
};
enum steer_port_flag {
    STEER_BY_ADDRESS = 1, /* the dialled address names the service: see steer_addresses */
    STEER_COUNTED = 2,    /* port_counts is wanted */
};
_Static_assert(sizeof(struct steer_port) == 4, "both sides must see the same value");

/* Dialled addresses that have a service of their own on a port; the longest prefix wins. */
struct steer_address {
    __u32
        prefix_bits;  /* of what follows: 16 of the port, 8 of the family and those of the prefix */
    __u16 port;       /* host byte order */
    __u8 family;      /* 4 or 6 */
    __u8 address[16]; /* IPv4 in the first four */
    __u8 zero;
};
_Static_assert(sizeof(struct steer_address) == 24, "both sides must see the same key");

/* What may become of a client. */
enum steer_verdict {
    STEER_ACCEPT, /* it gets our listener */
    STEER_REFUSE, /* it gets a reset, as if nobody listened, whoever does */
    STEER_DROP,   /* it gets no answer */
    STEER_PASS,   /* the kernel looks further, and a local listener may answer */
};

/* How a service stands at present. Eight bytes, written at once. */
struct steer_service {
    __u16 number; /* under which its list and its counters are found; 0 when it has none */
    __u8 present; /* enum steer_verdict: STEER_ACCEPT, or what when_down says while it is down */
    __u8 on_deny; /* STEER_REFUSE or STEER_DROP: for clients who may not come in */
    __u32 rate;   /* connections that a source may open in a second; 0 for any number */
};
_Static_assert(sizeof(struct steer_service) == 8, "both sides must see the same value");

/*
 * An access list is a trie of prefixes, each of which lets in (0) or denies (1). It has an entry
 * for every address: the one of no bits says what becomes of those that nobody wrote down. List 0
 * is for all services.
 */
struct steer_prefix {
    __u32 prefix_bits; /* of what follows: 8 of the family and those of the prefix */
    __u8 family;       /* 4 or 6 */
    __u8 address[16];  /* IPv4 in the first four */
    __u8 zero[3];
};
_Static_assert(sizeof(struct steer_prefix) == 24, "both sides must see the same key");

/* A source whose connections are counted: an IPv4 address, or 64 bits of an IPv6 one. */
struct steer_source {
    __u8 address[16];
    __u32 service;
};
_Static_assert(sizeof(struct steer_source) == 20, "both sides must see the same key");

/*
 * A connection of a limited source that was let in a moment ago; the value is when, in nanoseconds.
 * The kernel asks again when an ACK answers a SYN cookie, and that ACK is no second connection.
 */
struct steer_recent {
    struct steer_end client;
    __u16 port; /* that it dialled, host byte order */
    __u16 zero;
};
_Static_assert(sizeof(struct steer_recent) == 24, "both sides must see the same key");

/*
 * One counter for each way the program can answer for a port of ours, with the words that explain
 * it. It counts lookups: of SYNs, of the ACK that answers a SYN cookie, and of whatever comes for a
 * connection that is no more.
 * Ports that are not ours cost one map lookup and are not counted.
 */
#define STEER_COUNTERS(X)                                                             \
    X(steered, "handed to the listener")                                              \
    X(denied, "the client may not come in")                                           \
    X(limited, "the source opened more connections than it may")                      \
    X(refused_down, "refused, for no target is up")                                   \
    X(dropped_down, "not answered, for no target is up")                              \
    X(passed_down, "passed on, for no target is up")                                  \
    X(passed_own_dial, "proxify's own dial, passed on to the local listener")         \
    X(passed_other_address, "passed on, for no service has the dialled address")      \
    X(passed_no_listener, "passed on, for proxify's listener was gone")               \
    X(passed_already_selected, "another sk_lookup program had chosen a socket first") \
    X(passed_other_family, "an IPv6 client, and the listener is IPv4 only")           \
    X(passed_not_assigned, "the kernel did not take our listener, for another reason")

enum steer_counter {
#define STEER_COUNTER_INDEX(name, meaning) STEER_##name,
    STEER_COUNTERS(STEER_COUNTER_INDEX) STEER_COUNTERS_MAX,
};
#undef STEER_COUNTER_INDEX

/* What proxify_explain found. */
struct steer_explained {
    __u16 service; /* the number that is counted */
    __u8 outcome;  /* enum steer_counter; STEER_COUNTERS_MAX when the port is not ours */
    __u8 zero;
};
_Static_assert(sizeof(struct steer_explained) == 4, "both sides must see the same value");

/* All counters of a service. */
struct steer_counts {
    __u64 of[STEER_COUNTERS_MAX];
};

#endif
