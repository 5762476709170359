// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Steering: every new TCP connection to a port in proxy_ports goes to the one listener in
 * proxy_sock, whichever local address it is for. No socket is bound to those ports.
 *
 * The kernel asks this program when it looks for a listener: once for each SYN, before its own
 * tables. SK_PASS means "go on with the usual lookup", so a local listener answers, or the client
 * gets a reset. Whatever goes wrong here ends in SK_PASS: a proxify in trouble must not turn a
 * port into a hole that swallows clients until they time out.
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

/* LRU, so that a dial whose process died half-way cannot fill the table. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, STEER_OWN_DIALS_MAX);
    __type(key, struct steer_dial);
    __type(value, __u8);
} own_dials SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, STEER_COUNTERS_MAX);
    __type(key, __u32);
    __type(value, __u64);
} steer_counters SEC(".maps");

/* Both verdicts of this program are SK_PASS: with a socket assigned, or without. */
static __always_inline int pass_counted(enum steer_counter outcome) {
    __u32 index = outcome;
    __u64* count = bpf_map_lookup_elem(&steer_counters, &index);
    if (count) *count += 1;
    return SK_PASS;
}

static __always_inline _Bool is_ours(__u16 port) {
    return bpf_map_lookup_elem(&proxy_ports, &port) != NULL;
}

static __always_inline _Bool is_own_dial(const struct bpf_sk_lookup* lookup) {
    struct steer_dial dial = {.port_be = lookup->remote_port};
    __u32* words = (__u32*)dial.address;

    if (lookup->family == AF_INET) {
        __u32 address = lookup->remote_ip4;
        /* Else clang makes one read of both branches, at an offset that it computes, and the
         * verifier wants constant ones. */
        barrier_var(address);
        words[2] = bpf_htonl(0xffff);
        words[3] = address;
    } else {
        words[0] = lookup->remote_ip6[0];
        words[1] = lookup->remote_ip6[1];
        words[2] = lookup->remote_ip6[2];
        words[3] = lookup->remote_ip6[3];
    }
    return bpf_map_lookup_elem(&own_dials, &dial) != NULL;
}

static __always_inline enum steer_counter assign(struct bpf_sk_lookup* lookup,
                                                 struct bpf_sock* listener) {
    switch (bpf_sk_assign(lookup, listener, 0)) {
        case 0:
            return STEER_steered;
        case -EEXIST:
            return STEER_passed_already_selected;
        case -EAFNOSUPPORT:
            return STEER_passed_other_family;
        default:
            return STEER_passed_not_assigned;
    }
}

SEC("sk_lookup")
int proxify_steer(struct bpf_sk_lookup* lookup) {
    if (lookup->protocol != IPPROTO_TCP) return SK_PASS; /* UDP comes here too */
    if (!is_ours(lookup->local_port)) return SK_PASS;    /* host byte order, as in the map */

    /* A target may live on this host, on the very port that is steered. */
    if (is_own_dial(lookup)) return pass_counted(STEER_passed_own_dial);

    /* The slot empties itself when the listener is closed. */
    __u32 slot = 0;
    struct bpf_sock* listener = bpf_map_lookup_elem(&proxy_sock, &slot);
    if (!listener) return pass_counted(STEER_passed_no_listener);

    enum steer_counter outcome = assign(lookup, listener);
    bpf_sk_release(listener);
    return pass_counted(outcome);
}
