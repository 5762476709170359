// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Steering: every new TCP connection to a port in proxy_ports goes to the one listener in
 * proxy_sock, whichever local address it is for. No socket is bound to those ports.
 *
 * The kernel asks this program when it looks for a listener: once for each SYN, before its own
 * tables. SK_PASS means "go on with the usual lookup", so a local listener answers, or the client
 * gets a reset. Whatever goes wrong here ends in SK_PASS: a proxify in trouble must not turn a
 * port into a hole that swallows clients until they time out.
 *
 * SK_DROP ends the lookup without a socket, and a SYN without a socket is answered with a reset: so
 * a client is refused, even where a local socket listens. For one that is to get no answer at all
 * there is a socket that swallows every packet, steer_sink.
 *
 * It is compiled twice. proxify_steer is attached. proxify_explain never is: user space runs it to
 * hear what proxify_steer would do with a SYN. It goes the same way through the same maps, leaves
 * all of them as they are, and writes what it found into steer_explained instead of counting it.
 */
#include <linux/bpf.h>

#include <linux/errno.h>
#include <linux/in.h>
#include <linux/socket.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "contract.h"

#ifndef AF_INET
#define AF_INET 2 /* linux/socket.h leaves it to libc */
#endif

char _license[] SEC("license") = "Dual BSD/GPL";

/* Sizes instead of types, so that a dump shows a key as people type it, "89 13", not as 5001. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, STEER_PORTS_MAX);
    __uint(key_size, sizeof(__u16));
    __uint(value_size, sizeof(__u8));
} proxy_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} proxy_sock SEC(".maps");

/* Empty while no service wants to drop clients. */
struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u64);
} steer_sink SEC(".maps");

/* LRU, so that a dial whose process died half-way cannot fill the table. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, STEER_OWN_DIALS_MAX);
    __type(key, struct steer_end);
    __type(value, __u8);
} own_dials SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, STEER_PORTS_MAX);
    __type(key, __u32);
    __type(value, struct steer_port);
} steer_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, STEER_PREFIXES_MAX);
    __type(key, struct steer_address);
    __type(value, __u16);
} steer_addresses SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, STEER_SERVICES_MAX);
    __type(key, __u32);
    __type(value, struct steer_service);
} steer_services SEC(".maps");

/* By number of the service. A list is never changed: a new one takes its place, whole. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
    __uint(max_entries, STEER_SERVICES_MAX);
    __type(key, __u32);
    __array(
        values, struct {
            __uint(type, BPF_MAP_TYPE_LPM_TRIE);
            __uint(map_flags, BPF_F_NO_PREALLOC);
            __uint(max_entries, STEER_PREFIXES_MAX);
            /* As sizes: of types that only an inner map names, the compiler tells too little. */
            __uint(key_size, sizeof(struct steer_prefix));
            __uint(value_size, sizeof(__u8));
        });
} steer_lists SEC(".maps");

/* When the next connection of a source is due, in nanoseconds: see is_over_rate(). */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, STEER_SOURCES_MAX);
    __type(key, struct steer_source);
    __type(value, __u64);
} steer_rates SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, STEER_RECENT_MAX);
    __type(key, struct steer_recent);
    __type(value, __u64);
} steer_recent SEC(".maps");

/* By number of the service. User space makes an entry for each that is counted. */
struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, STEER_COUNTED_SERVICES_MAX);
    __type(key, __u32);
    __type(value, struct steer_counts);
} steer_counters SEC(".maps");

/* Connections steered, by port, when asked for. One counter for all CPUs: 512 KiB, whatever their
 * number. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, STEER_PORTS_MAX);
    __type(key, __u32);
    __type(value, __u64);
} port_counts SEC(".maps");

/* What proxify_explain found last. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct steer_explained);
} steer_explained SEC(".maps");

// ---- keys

static __always_inline void copy_client(const struct bpf_sk_lookup* lookup, __u8* address) {
    __u32* words = (__u32*)address;
    if (lookup->family == AF_INET) {
        __u32 v4 = lookup->remote_ip4;
        /* Else clang makes one read of both branches, at an offset that it computes, and the
         * verifier wants constant ones. */
        barrier_var(v4);
        words[2] = bpf_htonl(0xffff);
        words[3] = v4;
    } else {
        words[0] = lookup->remote_ip6[0];
        words[1] = lookup->remote_ip6[1];
        words[2] = lookup->remote_ip6[2];
        words[3] = lookup->remote_ip6[3];
    }
}

static __always_inline struct steer_end client_end(const struct bpf_sk_lookup* lookup) {
    struct steer_end end = {.port_be = lookup->remote_port};
    copy_client(lookup, end.address);
    return end;
}

// ---- questions

static __always_inline _Bool is_ours(__u16 port) {
    return bpf_map_lookup_elem(&proxy_ports, &port) != NULL;
}

static __always_inline _Bool is_own_dial(const struct bpf_sk_lookup* lookup) {
    struct steer_end dial = client_end(lookup);
    return bpf_map_lookup_elem(&own_dials, &dial) != NULL;
}

/* The number of the service that has the dialled address, or 0. */
static __always_inline __u16 service_by_address(const struct bpf_sk_lookup* lookup) {
    struct steer_address key = {.port = lookup->local_port};
    if (lookup->family == AF_INET) {
        __u32 v4 = lookup->local_ip4;
        barrier_var(v4);
        key.prefix_bits = 16 + 8 + 32;
        key.family = 4;
        __builtin_memcpy(key.address, &v4, 4);
    } else {
        __u32 words[4] = {lookup->local_ip6[0], lookup->local_ip6[1], lookup->local_ip6[2],
                          lookup->local_ip6[3]};
        key.prefix_bits = 16 + 8 + 128;
        key.family = 6;
        __builtin_memcpy(key.address, words, 16);
    }
    __u16* number = bpf_map_lookup_elem(&steer_addresses, &key);
    return number ? *number : 0;
}

/* Null when the port is configured for other addresses than the dialled one. */
static __always_inline struct steer_service* service_of(const struct bpf_sk_lookup* lookup,
                                                        const struct steer_port* port) {
    __u32 number = port->service;
    if (port->flags & STEER_BY_ADDRESS) {
        __u16 closer = service_by_address(lookup);
        if (closer) number = closer;
        if (!number) return NULL;
    }
    return bpf_map_lookup_elem(&steer_services, &number);
}

static __always_inline _Bool denies(__u32 list, const struct steer_prefix* client) {
    void* trie = bpf_map_lookup_elem(&steer_lists, &list);
    if (!trie) return 0;
    __u8* is_denied = bpf_map_lookup_elem(trie, client);
    return is_denied && *is_denied;
}

static __always_inline _Bool is_denied(const struct bpf_sk_lookup* lookup, __u32 service) {
    struct steer_prefix client = {};
    if (lookup->family == AF_INET) {
        __u32 v4 = lookup->remote_ip4;
        barrier_var(v4);
        client.prefix_bits = 8 + 32;
        client.family = 4;
        __builtin_memcpy(client.address, &v4, 4);
    } else {
        __u32 words[4] = {lookup->remote_ip6[0], lookup->remote_ip6[1], lookup->remote_ip6[2],
                          lookup->remote_ip6[3]};
        client.prefix_bits = 8 + 128;
        client.family = 6;
        __builtin_memcpy(client.address, words, 16);
    }
    return denies(0, &client) || (service && denies(service, &client));
}

/*
 * The generic cell rate algorithm (ITU-T I.371), with room for as many at once as are allowed in a
 * second. One number for each source, replaced in one step, so that no CPU waits for another.
 */
static __always_inline _Bool is_over_rate(const struct bpf_sk_lookup* lookup, __u32 service,
                                          __u32 rate, const _Bool is_real) {
    const __u64 second = 1000000000, each = second / rate, now = bpf_ktime_get_ns();
    struct steer_source source = {.service = service};
    copy_client(lookup, source.address);
    if (lookup->family != AF_INET) __builtin_memset(source.address + 8, 0, 8);

    __u64* due = bpf_map_lookup_elem(&steer_rates, &source);
    if (!due) {
        if (!is_real) return 0;
        __u64 first = now + each;
        bpf_map_update_elem(&steer_rates, &source, &first, BPF_NOEXIST);
        return 0;
    }
    for (int i = 0; i < 4; ++i) {
        __u64 was = *(volatile __u64*)due;
        __u64 next = (was > now ? was : now) + each;
        if (next - now > second) return 1;
        if (!is_real) return 0;
        if (__sync_val_compare_and_swap(due, was, next) == was) return 0;
    }
    return 0; /* other CPUs were quicker each time, and they count */
}

static __always_inline _Bool is_limited(const struct bpf_sk_lookup* lookup,
                                        const struct steer_service* service, const _Bool is_real) {
    if (service->rate == 0) return 0;
    const __u64 now = bpf_ktime_get_ns(), long_ago = 10000000000;
    struct steer_recent connection = {.client = client_end(lookup), .port = lookup->local_port};
    __u64* let_in = bpf_map_lookup_elem(&steer_recent, &connection);
    if (let_in && now - *let_in < long_ago) {
        /* Once: else a client that dials from one port again and again would never be counted. */
        if (is_real) bpf_map_delete_elem(&steer_recent, &connection);
        return 0;
    }
    if (is_over_rate(lookup, service->number, service->rate, is_real)) return 1;
    if (is_real) bpf_map_update_elem(&steer_recent, &connection, &now, BPF_ANY);
    return 0;
}

// ---- answers

static __always_inline struct steer_counts* counts_of(__u32 service) {
    struct steer_counts* counts = bpf_map_lookup_elem(&steer_counters, &service);
    if (counts) return counts;
    service = 0;
    return bpf_map_lookup_elem(&steer_counters, &service);
}

/*
 * Each place counts by a number that stands in the code: the verifier allows an index that depends
 * on the way that was taken only to those who have CAP_PERFMON. The comment in the assembly differs
 * from place to place, so that clang does not make one place of several.
 */
#define COUNT(service, outcome)                                   \
    do {                                                          \
        struct steer_counts* count_counts = counts_of(service);   \
        asm volatile("# " #outcome : "+r"(count_counts));         \
        if (count_counts) count_counts->of[STEER_##outcome] += 1; \
    } while (0)

static __always_inline void note(__u32 service, __u8 outcome) {
    __u32 slot = 0;
    struct steer_explained* explained = bpf_map_lookup_elem(&steer_explained, &slot);
    if (!explained) return;
    explained->service = service;
    explained->outcome = outcome;
}

/* What became of the client. */
#define FOUND(service, outcome)             \
    do {                                    \
        if (is_real)                        \
            COUNT(service, outcome);        \
        else                                \
            note(service, STEER_##outcome); \
    } while (0)

static __always_inline void count_port(__u32 port) {
    __u64* steered = bpf_map_lookup_elem(&port_counts, &port);
    if (steered) __sync_fetch_and_add(steered, 1);
}

static __always_inline _Bool steer(struct bpf_sk_lookup* lookup, __u32 service,
                                   const _Bool is_real) {
    /* The slot empties itself when the listener is closed. */
    __u32 slot = 0;
    struct bpf_sock* listener = bpf_map_lookup_elem(&proxy_sock, &slot);
    if (!listener) {
        FOUND(service, passed_no_listener);
        return 0;
    }
    /* BPF_PROG_RUN fails where a group of listeners would choose one of its own. */
    long error = bpf_sk_assign(lookup, listener, is_real ? 0 : BPF_SK_LOOKUP_F_NO_REUSEPORT);
    bpf_sk_release(listener);
    if (error == 0)
        FOUND(service, steered);
    else if (error == -EEXIST)
        FOUND(service, passed_already_selected);
    else if (error == -EAFNOSUPPORT)
        FOUND(service, passed_other_family);
    else
        FOUND(service, passed_not_assigned);
    return error == 0;
}

static __always_inline int turn_away(struct bpf_sk_lookup* lookup, __u8 how) {
    if (how != STEER_DROP) return SK_DROP;
    __u32 slot = 0;
    struct bpf_sock* sink = bpf_map_lookup_elem(&steer_sink, &slot);
    if (!sink) return SK_DROP;
    /* This very socket, not another one of a group. */
    long error = bpf_sk_assign(lookup, sink, BPF_SK_LOOKUP_F_NO_REUSEPORT);
    bpf_sk_release(sink);
    return error ? SK_DROP : SK_PASS;
}

static __always_inline int decide(struct bpf_sk_lookup* lookup, const _Bool is_real) {
    if (lookup->protocol != IPPROTO_TCP) return SK_PASS; /* UDP comes here too */
    if (!is_ours(lookup->local_port)) return SK_PASS;    /* host byte order, as in the map */

    __u32 dialled = lookup->local_port;
    struct steer_port* port = bpf_map_lookup_elem(&steer_ports, &dialled);
    if (!port) return SK_PASS; /* it cannot be: there is an entry for each */

    /* A target may live on this host, on the very port that is steered. */
    if (is_own_dial(lookup)) {
        FOUND(port->service, passed_own_dial);
        return SK_PASS;
    }
    struct steer_service* service = service_of(lookup, port);
    if (!service) {
        FOUND(0, passed_other_address);
        return SK_PASS;
    }
    const __u32 number = service->number;
    if (is_denied(lookup, number)) {
        FOUND(number, denied);
        return turn_away(lookup, service->on_deny);
    }
    switch (service->present) {
        case STEER_ACCEPT:
            break;
        case STEER_DROP:
            FOUND(number, dropped_down);
            return turn_away(lookup, STEER_DROP);
        case STEER_PASS:
            FOUND(number, passed_down);
            return SK_PASS;
        default:
            FOUND(number, refused_down);
            return turn_away(lookup, STEER_REFUSE);
    }
    if (is_limited(lookup, service, is_real)) {
        FOUND(number, limited);
        return turn_away(lookup, service->on_deny);
    }
    if (steer(lookup, number, is_real) && port->flags & STEER_COUNTED && is_real)
        count_port(dialled);
    return SK_PASS;
}

SEC("sk_lookup")
int proxify_steer(struct bpf_sk_lookup* lookup) {
    return decide(lookup, 1);
}

SEC("sk_lookup")
int proxify_explain(struct bpf_sk_lookup* lookup) {
    note(0, STEER_COUNTERS_MAX);
    return decide(lookup, 0);
}
