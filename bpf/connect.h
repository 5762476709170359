/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the connect programs and their user space agree on. Plain C, included by both sides, so that
 * no struct is written twice.
 *
 * Byte order: what the kernel's socket structs have in network order is in network order here, and
 * its name says so. Ports in keys that people or user space make up are in host order.
 */
#ifndef PROXIFY_CONNECT_H
#define PROXIFY_CONNECT_H

#include <linux/types.h>

/* Connections that are followed from connect() to close(). LRU: who dials more loses sight of the
 * oldest, and nothing else. */
#define CONNECT_TRACKED_MAX 10000

/* Redirected connections whose original destination nobody has asked for yet. */
#define CONNECT_ORIGINAL_DSTS_MAX 65536

#define CONNECT_DESTINATIONS_MAX 65536
#define CONNECT_SOURCES_MAX 4096
#define CONNECT_EXEMPT_MAX 4096

/* Destinations have a number under which they are counted: 0 for those without a name. */
#define CONNECT_NUMBERS_MAX 1024

/* A cgroup is looked for so far below the root, a process so far above its child. */
#define CONNECT_CGROUP_LEVELS_MAX 24
#define CONNECT_ANCESTORS_MAX 24
#define CONNECT_PID_NAMESPACES_MAX 8

#define CONNECT_EVENTS_BYTES (1 << 20)

/* IPv4 addresses are v4-mapped, ::ffff:10.0.0.7. */
struct connect_end {
    __u8 address[16] __attribute__((aligned(4))); /* network byte order */
    __be16 port_be;
    __u16 zero; /* padding; keys are compared as bytes, so it has to be 0 */
};
_Static_assert(sizeof(struct connect_end) == 20, "both sides must see the same key");

/*
 * A redirected connection, as its two ends see it. Sockets on loopback are told apart by the
 * network namespace as well, for each has a 127.0.0.1 of its own; elsewhere netns is 0.
 */
struct connect_tuple {
    struct connect_end client;
    struct connect_end server;
    __u64 netns; /* cookie */
};
_Static_assert(sizeof(struct connect_tuple) == 48, "both sides must see the same key");

/* Where a redirected connection was aimed. */
struct connect_original {
    struct connect_end aimed_at;
    __u32 zero;
    __u64 since_ns; /* CLOCK_MONOTONIC: of the first SYN, then of the answer to it */
};
_Static_assert(sizeof(struct connect_original) == 32, "both sides must see the same value");

/*
 * An original destination that nobody asked for is worth nothing after this time: another client,
 * whose connect() is not seen here, may have the same two addresses by then. Before, the kernel
 * does not give them away, as it keeps a closed connection in TIME_WAIT so long. A listener that
 * takes longer to accept has lost most of its clients anyway.
 */
#define CONNECT_ORIGINAL_LASTS_NS 60000000000ull

/*
 * A destination that is captured; the longest prefix wins. One with a port is looked for first.
 *
 *   203.0.113.0/24, any port    prefix_bits 16 + 8 + 24, port 0,  family 4
 *   [2001:db8::1]:80            prefix_bits 16 + 8 + 128, port 80, family 6
 */
struct connect_destination {
    __u32
        prefix_bits;  /* of what follows: 16 of the port, 8 of the family and those of the prefix */
    __u16 port;       /* host byte order; 0 for any */
    __u8 family;      /* 4 or 6 */
    __u8 address[16]; /* IPv4 in the first four */
    __u8 zero;
};
_Static_assert(sizeof(struct connect_destination) == 24, "both sides must see the same key");

/* Whose connects are captured. */
enum connect_source_kind {
    CONNECT_CGROUP = 1,        /* the id of a cgroup, and all below it */
    CONNECT_PID_NAMESPACE = 2, /* the inode of a PID namespace */
};
struct connect_source {
    __u64 id;
    __u32 kind; /* enum connect_source_kind */
    __u32 zero;
};
_Static_assert(sizeof(struct connect_source) == 16, "both sides must see the same key");

/* Two of these exist, and connect_slot says which one is valid, so all of it changes at once. */
struct connect_settings {
    struct connect_end proxy4; /* where connections go; port 0 for nowhere */
    struct connect_end proxy6;
    __u64 netns;         /* cookie of proxify's own network namespace */
    __u64 proxy_netns;   /* the same of the foreign proxy */
    __u32 pid_namespace; /* inode of proxify's own; 0 when it is that of the whole host */
    __u32 mark;          /* of proxify's own sockets; 0 for none */
    __u32 mark_mask;
    __u32 proxy_uid;        /* whom the foreign proxy runs as; beside root */
    __u8 redirects;         /* 0: connections are only seen */
    __u8 all_v4;            /* every IPv4 destination is captured, but for loopback */
    __u8 all_v6;            /* the same of IPv6 */
    __u8 from_sources;      /* only connects of connect_sources are captured */
    __u8 exempts_processes; /* connect_exempt_processes has something */
    __u8 exempts_cgroups;   /* connect_exempt_cgroups has something */
    __u8 has_foreign_proxy; /* the proxy is another program, which has to be exempt */
    __u8 wants_events;
};
_Static_assert(sizeof(struct connect_settings) == 80, "both sides must see the same value");

/* A connection that is followed. */
struct connect_connection {
    struct connect_end original; /* where it was aimed */
    struct connect_end used;     /* where it went; the same when it was only seen */
    __u64 cgroup;                /* of the process */
    __u64 netns;                 /* cookie, of the socket */
    __u64 started_ns;            /* CLOCK_MONOTONIC */
    __u32 tgid;                  /* as proxify sees it; 0 when it cannot */
    __u32 uid;
    __u32 pid_namespace; /* inode, of the process */
    __u32 number;        /* of the destination */
    __u8 state;          /* of TCP; 0 until the first SYN */
    __u8 is_redirected;
    __u16 zero;
    char comm[16];
    __u32 zero2;
};
_Static_assert(sizeof(struct connect_connection) == 104, "both sides must see the same value");

enum connect_event_kind {
    CONNECT_DIALLED = 1,  /* a connect() was captured */
    CONNECT_LISTENED = 2, /* somebody began to listen where the proxy is; tgid if exempt */
};
struct connect_event {
    __u32 kind; /* enum connect_event_kind */
    __u32 zero;
    __u64 cookie; /* of the socket */
    struct connect_connection connection;
};
_Static_assert(sizeof(struct connect_event) == 120, "both sides must see the same record");

struct connect_number_counts {
    __u64 captured;
};

/* What became of the TCP connects that came by, with the words that explain it. */
#define CONNECT_COUNTERS(X)                                                \
    X(redirected, "sent to the proxy")                                     \
    X(seen, "only seen")                                                   \
    X(passed_own, "proxify's own, by their mark")                          \
    X(passed_exempt_cgroup, "of an exempt cgroup")                         \
    X(passed_exempt_process, "of the proxy's own processes")               \
    X(passed_to_proxy, "aimed at the proxy itself")                        \
    X(passed_other_destination, "aimed elsewhere")                         \
    X(passed_other_source, "of somebody else")                             \
    X(passed_other_namespace,                                              \
      "of another network namespace, where loopback is not "               \
      "proxify's")                                                         \
    X(passed_other_family, "of a family that the proxy does not have")     \
    X(passed_not_followed, "the kernel could not write them down")         \
    X(lost_originals, "redirected, but the original destination was lost") \
    X(lost_events, "events that nobody read in time")

enum connect_counter {
#define CONNECT_COUNTER_INDEX(name, meaning) CONNECT_##name,
    CONNECT_COUNTERS(CONNECT_COUNTER_INDEX) CONNECT_COUNTERS_MAX,
};
#undef CONNECT_COUNTER_INDEX

struct connect_counts {
    __u64 of[CONNECT_COUNTERS_MAX];
};

#endif
