// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Capture at connect(): a program of this host, or of a container on it, dials a destination, and
 * is connected to a proxy instead. The address in its call is replaced before anything else
 * happens: no packet is rewritten, and no route or rule is needed.
 *
 *   proxify_connect4, proxify_connect6     decide, note the connection, replace the destination
 *   proxify_follow (sockops)               at the first SYN, when the source port is known, writes
 * down the original destination for whoever accepts; follows states proxify_peer4, proxify_peer6
 * getpeername() tells the application whom it called proxify_original (getsockopt) SO_ORIGINAL_DST
 * tells a foreign proxy the same
 *
 * The socket that the proxy accepts is another one than the client's, in a cgroup, perhaps a
 * network namespace, of its own. What both have in common is their two addresses: hence
 * connect_tuple.
 *
 * Each answer is 1, "go on": a proxify in trouble must not cut the network of the host, so whatever
 * goes wrong here leaves the connection as it was.
 */
#include <linux/bpf.h>

#include <linux/errno.h>
#include <linux/in.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "connect.h"

/* linux/socket.h and linux/in6.h leave these to libc. */
#define AF_INET 2
#define AF_INET6 10
#define SOL_IP 0
#define SOL_IPV6 41
#define TCP_CLOSE_STATE 7     /* BPF_TCP_CLOSE */
#define OPTION_SHOWN_MAX 4096 /* of an option's value; a page */
#define SO_ORIGINAL_DST 80    /* linux/netfilter_ipv4.h; IP6T_SO_ORIGINAL_DST is the same */

char _license[] SEC("license") = "Dual BSD/GPL";

/* As much of the kernel's own structs as is looked at; libbpf finds out where the fields are. */
struct ns_common {
    unsigned int inum;
} __attribute__((preserve_access_index));
struct pid_namespace {
    struct ns_common ns;
} __attribute__((preserve_access_index));
struct upid {
    int nr;
    struct pid_namespace* ns;
} __attribute__((preserve_access_index));
struct pid {
    unsigned int level;
    struct upid numbers[1];
} __attribute__((preserve_access_index));
struct kuid {
    unsigned int val;
} __attribute__((preserve_access_index));
struct cred {
    struct kuid euid;
} __attribute__((preserve_access_index));
struct task_struct {
    int tgid;
    const struct cred* cred;
    struct task_struct* real_parent;
    struct task_struct* group_leader;
    struct pid* thread_pid;
} __attribute__((preserve_access_index));

/* Which of the two settings is valid. */
volatile __u32 connect_slot = 0;

/* CONNECT_ORIGINAL_LASTS_NS, but for tests. */
const volatile __u64 original_lasts_ns = CONNECT_ORIGINAL_LASTS_NS;

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 2);
    __type(key, __u32);
    __type(value, struct connect_settings);
} connect_config SEC(".maps");

/* The value is the number under which it is counted. */
struct {
    __uint(type, BPF_MAP_TYPE_LPM_TRIE);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, CONNECT_DESTINATIONS_MAX);
    __type(key, struct connect_destination);
    __type(value, __u32);
} connect_to SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, CONNECT_SOURCES_MAX);
    __type(key, struct connect_source);
    __type(value, __u8);
} connect_from SEC(".maps");

/* Ids of cgroups: they and all below them are left alone. */
struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, CONNECT_EXEMPT_MAX);
    __type(key, __u64);
    __type(value, __u8);
} exempt_cgroups SEC(".maps");

/* Processes, as proxify sees them: they and their descendants are left alone. LRU, for an entry is
 * made wherever somebody listens at the proxy's address. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, CONNECT_EXEMPT_MAX);
    __type(key, __u32);
    __type(value, __u8);
} exempt_procs SEC(".maps");

/* By the cookie of the client's socket. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, CONNECT_TRACKED_MAX);
    __type(key, __u64);
    __type(value, struct connect_connection);
} connections SEC(".maps");

/*
 * An entry stays until proxify takes it, it is too old or room is needed; also when the client is
 * gone by then, for it may have said all it had to say before anybody accepted.
 */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, CONNECT_ORIGINAL_DSTS_MAX);
    __type(key, struct connect_tuple);
    __type(value, struct connect_original);
} original_dsts SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, CONNECT_EVENTS_BYTES);
} connect_events SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct connect_counts);
} connect_counts SEC(".maps");

/* By the number of the destination. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, CONNECT_NUMBERS_MAX);
    __type(key, __u32);
    __type(value, struct connect_number_counts);
} connect_numbers SEC(".maps");

// ---- counting

#define COUNT(outcome)                                                                           \
    do {                                                                                         \
        __u32 count_slot = 0;                                                                    \
        struct connect_counts* count_counts = bpf_map_lookup_elem(&connect_counts, &count_slot); \
        asm volatile("# " #outcome : "+r"(count_counts));                                        \
        if (count_counts) count_counts->of[CONNECT_##outcome] += 1;                              \
    } while (0)

static __always_inline void count_number(__u32 number) {
    struct connect_number_counts* counts = bpf_map_lookup_elem(&connect_numbers, &number);
    if (counts) __sync_fetch_and_add(&counts->captured, 1);
}

// ---- addresses

/* Of a context only words may be read, and clang would make one read of two that are neighbours. */
#define READ(field)                 \
    ({                              \
        __u32 read_value = (field); \
        barrier_var(read_value);    \
        read_value;                 \
    })

static __always_inline void set_v4(struct connect_end* end, __u32 ip4_be, __be16 port_be) {
    __u32* words = (__u32*)end->address;
    words[0] = 0;
    words[1] = 0;
    words[2] = bpf_htonl(0xffff);
    words[3] = ip4_be;
    end->port_be = port_be;
    end->zero = 0;
}

static __always_inline void set_v6(struct connect_end* end, __u32 a, __u32 b, __u32 c, __u32 d,
                                   __be16 port_be) {
    __u32* words = (__u32*)end->address;
    words[0] = a;
    words[1] = b;
    words[2] = c;
    words[3] = d;
    end->port_be = port_be;
    end->zero = 0;
}

static __always_inline __u32 word(const struct connect_end* end, int i) {
    return ((const __u32*)end->address)[i];
}

static __always_inline _Bool is_v4(const struct connect_end* end) {
    return word(end, 0) == 0 && word(end, 1) == 0 && word(end, 2) == bpf_htonl(0xffff);
}

static __always_inline _Bool has_same_address(const struct connect_end* a,
                                              const struct connect_end* b) {
    return word(a, 0) == word(b, 0) && word(a, 1) == word(b, 1) && word(a, 2) == word(b, 2) &&
           word(a, 3) == word(b, 3);
}

/* 127.0.0.0/8, ::1, and the addresses of zeros, by which connect() means the same. */
static __always_inline _Bool is_loopback(const struct connect_end* end) {
    if (is_v4(end)) {
        __u32 ip4 = bpf_ntohl(word(end, 3));
        return ip4 >> 24 == 127 || ip4 == 0;
    }
    return word(end, 0) == 0 && word(end, 1) == 0 && word(end, 2) == 0 &&
           bpf_ntohl(word(end, 3)) <= 1;
}

/* Two structs without a hole between them, so that nothing has to be cleared. */
static __always_inline void set_netns(struct connect_tuple* tuple, __u64 netns) {
    tuple->netns = is_loopback(&tuple->server) ? netns : 0;
}

// ---- processes

static __always_inline struct upid* number_at(struct pid* pid, __u32 level) {
    return (struct upid*)((char*)__builtin_preserve_access_index(&pid->numbers) +
                          level * bpf_core_type_size(struct upid));
}

static __always_inline __u32 namespace_of(struct upid* number) {
    struct pid_namespace* ns = BPF_CORE_READ(number, ns);
    return ns ? BPF_CORE_READ(ns, ns.inum) : 0;
}

/* The inode of the PID namespace that a process lives in. */
static __always_inline __u32 pid_namespace_of(struct task_struct* task) {
    struct pid* pid = BPF_CORE_READ(task, group_leader, thread_pid);
    if (!pid) return 0;
    __u32 level = BPF_CORE_READ(pid, level);
    return namespace_of(number_at(pid, level));
}

/* The number of a process where proxify is; 0 when it has none there. */
static __always_inline __u32 tgid_of(struct task_struct* task, __u32 pid_namespace) {
    if (pid_namespace == 0) return BPF_CORE_READ(task, tgid);
    struct pid* pid = BPF_CORE_READ(task, group_leader, thread_pid);
    if (!pid) return 0;
    for (__u32 level = 0; level < CONNECT_PID_NAMESPACES_MAX; ++level) {
        if (level > BPF_CORE_READ(pid, level)) break;
        struct upid* number = number_at(pid, level);
        if (namespace_of(number) == pid_namespace) return BPF_CORE_READ(number, nr);
    }
    return 0;
}

static __always_inline struct task_struct* this_task(void) {
    return (struct task_struct*)bpf_get_current_task();
}

/*
 * Walks along a process's ancestors and its cgroups are functions of their own, not static, because
 * those are verified once: within the others they would be, again and again, for each way there.
 */
__noinline int walk_to_exempt_cgroup(void) {
    for (int level = 0; level < CONNECT_CGROUP_LEVELS_MAX; ++level) {
        __u64 id = bpf_get_current_ancestor_cgroup_id(level);
        if (!id) break;
        if (bpf_map_lookup_elem(&exempt_cgroups, &id)) return 1;
    }
    return 0;
}

__noinline int walk_to_exempt_process(__u32 pid_namespace) {
    struct task_struct* task = this_task();
    for (int i = 0; i < CONNECT_ANCESTORS_MAX && task; ++i) {
        __u32 tgid = tgid_of(task, pid_namespace);
        if (!tgid) break; /* outside of what proxify sees, or the kernel's own */
        if (bpf_map_lookup_elem(&exempt_procs, &tgid)) return 1;
        if (tgid == 1) break;
        task = BPF_CORE_READ(task, real_parent);
    }
    return 0;
}

__noinline int walk_to_source(void) {
    struct connect_source source = {.id = pid_namespace_of(this_task()),
                                    .kind = CONNECT_PID_NAMESPACE};
    if (bpf_map_lookup_elem(&connect_from, &source)) return 1;
    source.kind = CONNECT_CGROUP;
    for (int level = 0; level < CONNECT_CGROUP_LEVELS_MAX; ++level) {
        source.id = bpf_get_current_ancestor_cgroup_id(level);
        if (!source.id) break;
        if (bpf_map_lookup_elem(&connect_from, &source)) return 1;
    }
    return 0;
}

__noinline int this_tgid(__u32 pid_namespace) {
    return tgid_of(this_task(), pid_namespace);
}

__noinline int this_pid_namespace(void) {
    return pid_namespace_of(this_task());
}

// ---- questions

static __always_inline struct connect_settings* settings_now(void) {
    __u32 slot = connect_slot & 1;
    return bpf_map_lookup_elem(&connect_config, &slot);
}

static __always_inline _Bool is_own(struct bpf_sock_addr* call,
                                    const struct connect_settings* settings) {
    struct bpf_sock* socket = call->sk;
    return settings->mark && socket && (socket->mark & settings->mark_mask) == settings->mark;
}

static __always_inline _Bool is_in_exempt_cgroup(const struct connect_settings* settings) {
    return settings->exempts_cgroups && walk_to_exempt_cgroup();
}

static __always_inline _Bool is_exempt_process(const struct connect_settings* settings) {
    return settings->exempts_processes && walk_to_exempt_process(settings->pid_namespace);
}

static __always_inline _Bool is_source(const struct connect_settings* settings) {
    return !settings->from_sources || walk_to_source();
}

static __always_inline const struct connect_end* proxy_for(const struct connect_settings* settings,
                                                           const struct connect_end* to) {
    return is_v4(to) ? &settings->proxy4 : &settings->proxy6;
}

/* Also at another address of loopback, when the proxy is there: it may listen at all of them. */
static __always_inline _Bool is_aimed_at_proxy(const struct connect_settings* settings,
                                               const struct connect_end* to) {
    const struct connect_end* proxy = proxy_for(settings, to);
    if (proxy->port_be != to->port_be) return 0;
    return has_same_address(proxy, to) || (is_loopback(proxy) && is_loopback(to));
}

/* Null when this is not a destination that is captured, else the number that is counted. */
static __always_inline _Bool is_destination(const struct connect_settings* settings,
                                            const struct connect_end* to, __u32* number) {
    struct connect_destination key = {.port = bpf_ntohs(to->port_be)};
    if (is_v4(to)) {
        key.prefix_bits = 16 + 8 + 32;
        key.family = 4;
        __builtin_memcpy(key.address, to->address + 12, 4);
    } else {
        key.prefix_bits = 16 + 8 + 128;
        key.family = 6;
        __builtin_memcpy(key.address, to->address, 16);
    }
    __u32* found = bpf_map_lookup_elem(&connect_to, &key);
    if (!found) {
        key.port = 0;
        found = bpf_map_lookup_elem(&connect_to, &key);
    }
    *number = found ? *found : 0;
    if (found) return 1;
    /* Who captures everything does not mean what programs say to themselves, though it may be
     * looked at. */
    if (settings->redirects && is_loopback(to)) return 0;
    return is_v4(to) ? settings->all_v4 : settings->all_v6;
}

// ---- connect()

static __always_inline void tell(const struct connect_settings* settings, __u64 cookie,
                                 const struct connect_connection* connection) {
    if (!settings->wants_events) return;
    struct connect_event* event = bpf_ringbuf_reserve(&connect_events, sizeof *event, 0);
    if (!event) {
        COUNT(lost_events);
        return;
    }
    event->kind = CONNECT_DIALLED;
    event->zero = 0;
    event->cookie = cookie;
    event->connection = *connection;
    bpf_ringbuf_submit(event, 0);
}

/* For whoever reads /sys/kernel/debug/tracing/trace_pipe. */
static __always_inline void trace(const struct connect_end* to, const struct connect_end* proxy) {
    const int port = bpf_ntohs(to->port_be), proxy_port = bpf_ntohs(proxy->port_be);
    if (is_v4(to))
        bpf_printk("proxify: redirect %pI4:%d to port %d", to->address + 12, port, proxy_port);
    else
        bpf_printk("proxify: redirect [%pI6]:%d to port %d", to->address, port, proxy_port);
}

/* The proxy to which this connection goes; null when it goes where it was aimed. */
static __always_inline const struct connect_end* capture(struct bpf_sock_addr* call,
                                                         const struct connect_end* to) {
    const __u64 cookie = bpf_get_socket_cookie(call);
    /* A socket may be connected again, after it failed or was disconnected. */
    if (bpf_map_lookup_elem(&connections, &cookie)) bpf_map_delete_elem(&connections, &cookie);

    const struct connect_settings* settings = settings_now();
    if (!settings) return NULL; /* it cannot be: there are two entries */
    __u32 number;
    if (!is_destination(settings, to, &number)) {
        COUNT(passed_other_destination);
        return NULL;
    }
    if (is_own(call, settings)) {
        COUNT(passed_own);
        return NULL;
    }
    if (is_in_exempt_cgroup(settings)) {
        COUNT(passed_exempt_cgroup);
        return NULL;
    }
    if (!is_source(settings)) {
        COUNT(passed_other_source);
        return NULL;
    }
    if (is_exempt_process(settings)) {
        COUNT(passed_exempt_process);
        return NULL;
    }
    const struct connect_end* proxy = proxy_for(settings, to);
    const __u64 netns = bpf_get_netns_cookie(call);
    if (settings->redirects) {
        if (is_aimed_at_proxy(settings, to)) {
            COUNT(passed_to_proxy);
            return NULL;
        }
        if (proxy->port_be == 0) {
            COUNT(passed_other_family);
            return NULL;
        }
        if (is_loopback(proxy) && netns != settings->netns) {
            COUNT(passed_other_namespace);
            return NULL;
        }
    }

    struct connect_connection connection = {
        .original = *to,
        .used = settings->redirects ? *proxy : *to,
        .cgroup = bpf_get_current_cgroup_id(),
        .netns = netns,
        .started_ns = bpf_ktime_get_ns(),
        .tgid = this_tgid(settings->pid_namespace),
        .uid = bpf_get_current_uid_gid(),
        .pid_namespace = this_pid_namespace(),
        .number = number,
        .is_redirected = settings->redirects,
    };
    bpf_get_current_comm(connection.comm, sizeof connection.comm);
    if (bpf_map_update_elem(&connections, &cookie, &connection, BPF_ANY)) {
        COUNT(passed_not_followed);
        return NULL;
    }
    count_number(number);
    tell(settings, cookie, &connection);
    if (!settings->redirects) {
        COUNT(seen);
        return NULL;
    }
    COUNT(redirected);
    if (settings->wants_events) trace(to, proxy);
    return proxy;
}

SEC("cgroup/connect4")
int proxify_connect4(struct bpf_sock_addr* call) {
    if (call->protocol != IPPROTO_TCP) return 1; /* connected UDP comes here too */
    struct connect_end to;
    set_v4(&to, READ(call->user_ip4), call->user_port);
    const struct connect_end* proxy = capture(call, &to);
    if (proxy) {
        call->user_ip4 = word(proxy, 3);
        call->user_port = proxy->port_be;
    }
    return 1;
}

/* Also of sockets that speak IPv4 by mapped addresses, as many programs do. */
SEC("cgroup/connect6")
int proxify_connect6(struct bpf_sock_addr* call) {
    if (call->protocol != IPPROTO_TCP) return 1;
    struct connect_end to;
    set_v6(&to, READ(call->user_ip6[0]), READ(call->user_ip6[1]), READ(call->user_ip6[2]),
           READ(call->user_ip6[3]), call->user_port);
    const struct connect_end* proxy = capture(call, &to);
    if (proxy) {
        call->user_ip6[0] = word(proxy, 0);
        call->user_ip6[1] = word(proxy, 1);
        call->user_ip6[2] = word(proxy, 2);
        call->user_ip6[3] = word(proxy, 3);
        call->user_port = proxy->port_be;
    }
    return 1;
}

// ---- getpeername()

static __always_inline const struct connect_end* aimed_at(struct bpf_sock_addr* call) {
    if (call->protocol != IPPROTO_TCP) return NULL;
    const __u64 cookie = bpf_get_socket_cookie(call);
    const struct connect_connection* connection = bpf_map_lookup_elem(&connections, &cookie);
    return connection && connection->is_redirected ? &connection->original : NULL;
}

SEC("cgroup/getpeername4")
int proxify_peer4(struct bpf_sock_addr* call) {
    const struct connect_end* original = aimed_at(call);
    if (original) {
        call->user_ip4 = word(original, 3);
        call->user_port = original->port_be;
    }
    return 1;
}

SEC("cgroup/getpeername6")
int proxify_peer6(struct bpf_sock_addr* call) {
    const struct connect_end* original = aimed_at(call);
    if (original) {
        call->user_ip6[0] = word(original, 0);
        call->user_ip6[1] = word(original, 1);
        call->user_ip6[2] = word(original, 2);
        call->user_ip6[3] = word(original, 3);
        call->user_port = original->port_be;
    }
    return 1;
}

// ---- states

static __always_inline __be16 remote_port_be(const struct bpf_sock_ops* ops) {
    __u32 port = ops->remote_port;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    port >>= 16;
#endif
    return port;
}

static __always_inline void set_local(struct connect_end* end, struct bpf_sock_ops* ops) {
    const __be16 port_be = bpf_htons(ops->local_port);
    if (ops->family == AF_INET)
        set_v4(end, READ(ops->local_ip4), port_be);
    else
        set_v6(end, READ(ops->local_ip6[0]), READ(ops->local_ip6[1]), READ(ops->local_ip6[2]),
               READ(ops->local_ip6[3]), port_be);
}

static __always_inline void set_remote(struct connect_end* end, struct bpf_sock_ops* ops) {
    const __be16 port_be = remote_port_be(ops);
    if (ops->family == AF_INET)
        set_v4(end, READ(ops->remote_ip4), port_be);
    else
        set_v6(end, READ(ops->remote_ip6[0]), READ(ops->remote_ip6[1]), READ(ops->remote_ip6[2]),
               READ(ops->remote_ip6[3]), port_be);
}

/* Before the first SYN, with both addresses known. */
static __always_inline void on_dial(struct bpf_sock_ops* ops) {
    const struct connect_settings* settings = settings_now();
    if (!settings) return;
    const __u64 cookie = bpf_get_socket_cookie(ops);
    struct connect_connection* connection = bpf_map_lookup_elem(&connections, &cookie);
    const __be16 port_be = remote_port_be(ops);
    const _Bool may_be_proxy =
        port_be == settings->proxy4.port_be || port_be == settings->proxy6.port_be;
    if (!connection && !may_be_proxy) return;

    struct connect_tuple tuple = {};
    set_local(&tuple.client, ops);
    set_remote(&tuple.server, ops);
    set_netns(&tuple, bpf_get_netns_cookie(ops));
    if (!connection || !connection->is_redirected) {
        /* Somebody who calls the proxy directly; the one who had this port before did not. */
        bpf_map_delete_elem(&original_dsts, &tuple);
    } else {
        const struct connect_original original = {.aimed_at = connection->original,
                                                  .since_ns = bpf_ktime_get_ns()};
        if (bpf_map_update_elem(&original_dsts, &tuple, &original, BPF_ANY)) COUNT(lost_originals);
    }
    if (!connection) return;
    connection->state = BPF_TCP_SYN_SENT;
    bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_STATE_CB_FLAG);
}

static __always_inline _Bool is_too_old(const struct connect_original* original) {
    return bpf_ktime_get_ns() - original->since_ns > original_lasts_ns;
}

/*
 * The age of an original destination is counted from the answer to the SYN, which comes before
 * anybody can accept: a SYN may be sent again for minutes. Once the connection has ended, an old
 * one goes, and that of a connection that never was goes at once.
 */
static __always_inline void on_original(struct bpf_sock_ops* ops, __u32 before, __u32 state) {
    struct connect_tuple tuple = {};
    set_local(&tuple.client, ops);
    set_remote(&tuple.server, ops);
    set_netns(&tuple, bpf_get_netns_cookie(ops));
    struct connect_original* original = bpf_map_lookup_elem(&original_dsts, &tuple);
    if (!original) return;
    if (state == BPF_TCP_ESTABLISHED)
        original->since_ns = bpf_ktime_get_ns();
    else if (before == BPF_TCP_SYN_SENT || is_too_old(original))
        bpf_map_delete_elem(&original_dsts, &tuple);
}

static __always_inline void on_state(struct bpf_sock_ops* ops) {
    const __u64 cookie = bpf_get_socket_cookie(ops);
    const __u32 before = ops->args[0], state = ops->args[1];
    struct connect_connection* connection = bpf_map_lookup_elem(&connections, &cookie);
    if ((state == BPF_TCP_CLOSE || state == BPF_TCP_ESTABLISHED) &&
        (!connection || connection->is_redirected))
        on_original(ops, before, state);
    if (state == BPF_TCP_CLOSE)
        bpf_map_delete_elem(&connections, &cookie);
    else if (connection)
        connection->state = state;
}

static __always_inline _Bool listens_there(const struct connect_end* local,
                                           const struct connect_end* proxy) {
    if (local->port_be != proxy->port_be) return 0;
    /* At all addresses, of either family: for which of them, user space finds out. */
    const _Bool is_any = word(local, 0) == 0 && word(local, 1) == 0 && word(local, 3) == 0;
    return is_any || has_same_address(local, proxy);
}

/*
 * A proxy that was started again would meet itself from its first dial on, if it had to wait until
 * user space finds it. So it is exempt at once; user space corrects that if it was somebody else.
 * But never process 1, from which all others descend; nor just anybody, who could escape the
 * capture by this: only root, and the user that the proxy ran as, and only in its network
 * namespace, for in one of their own everybody may listen at any address.
 */
static __always_inline void on_listen(struct bpf_sock_ops* ops) {
    const struct connect_settings* settings = settings_now();
    if (!settings || !settings->has_foreign_proxy) return;
    struct connect_end local;
    set_local(&local, ops);
    if (!listens_there(&local, &settings->proxy4) && !listens_there(&local, &settings->proxy6))
        return;
    if (bpf_get_netns_cookie(ops) != settings->proxy_netns) return;
    const __u32 uid = BPF_CORE_READ(this_task(), cred, euid.val);
    const _Bool may_be_proxy = uid == 0 || uid == settings->proxy_uid;
    __u32 tgid = may_be_proxy ? this_tgid(settings->pid_namespace) : 0;
    const __u8 yes = 1;
    if (tgid > 1) bpf_map_update_elem(&exempt_procs, &tgid, &yes, BPF_ANY);

    struct connect_event* event = bpf_ringbuf_reserve(&connect_events, sizeof *event, 0);
    if (!event) return;
    __builtin_memset(event, 0, sizeof *event);
    event->kind = CONNECT_LISTENED;
    event->connection.tgid = tgid;
    bpf_ringbuf_submit(event, 0);
}

SEC("sockops")
int proxify_follow(struct bpf_sock_ops* ops) {
    switch (ops->op) {
        case BPF_SOCK_OPS_TCP_CONNECT_CB:
            on_dial(ops);
            break;
        case BPF_SOCK_OPS_STATE_CB:
            on_state(ops);
            break;
        case BPF_SOCK_OPS_TCP_LISTEN_CB:
            on_listen(ops);
            break;
    }
    return 1;
}

// ---- SO_ORIGINAL_DST

/* As in linux/in.h and linux/in6.h. */
struct answer_v4 {
    __u16 family;
    __be16 port_be;
    __u32 address_be;
    __u8 zero[8];
};
struct answer_v6 {
    __u16 family;
    __be16 port_be;
    __u32 flow;
    __u32 address_be[4];
    __u32 scope;
};

static __always_inline const struct connect_end* original_of(struct bpf_sockopt* question) {
    struct bpf_sock* socket = question->sk;
    if (!socket || socket->protocol != IPPROTO_TCP) return NULL;
    struct connect_tuple tuple = {};
    const __be16 local_port_be = bpf_htons(socket->src_port);
    if (socket->family == AF_INET) {
        set_v4(&tuple.client, READ(socket->dst_ip4), socket->dst_port);
        set_v4(&tuple.server, READ(socket->src_ip4), local_port_be);
    } else if (socket->family == AF_INET6) {
        set_v6(&tuple.client, READ(socket->dst_ip6[0]), READ(socket->dst_ip6[1]),
               READ(socket->dst_ip6[2]), READ(socket->dst_ip6[3]), socket->dst_port);
        set_v6(&tuple.server, READ(socket->src_ip6[0]), READ(socket->src_ip6[1]),
               READ(socket->src_ip6[2]), READ(socket->src_ip6[3]), local_port_be);
    } else {
        return NULL;
    }
    set_netns(&tuple, bpf_get_netns_cookie(question));
    const struct connect_original* original = bpf_map_lookup_elem(&original_dsts, &tuple);
    return original && !is_too_old(original) ? &original->aimed_at : NULL;
}

static __always_inline void answer_v4(struct bpf_sockopt* question,
                                      const struct connect_end* original) {
    struct answer_v4* answer = question->optval;
    if ((void*)(answer + 1) > question->optval_end) return;
    answer->family = AF_INET;
    answer->port_be = original->port_be;
    answer->address_be = word(original, 3);
    __builtin_memset(answer->zero, 0, sizeof answer->zero);
    question->optlen = sizeof *answer;
    barrier(); /* else both are written at once, which the verifier does not let through */
    question->retval = 0;
}

static __always_inline void answer_v6(struct bpf_sockopt* question,
                                      const struct connect_end* original) {
    struct answer_v6* answer = question->optval;
    if ((void*)(answer + 1) > question->optval_end) return;
    answer->family = AF_INET6;
    answer->port_be = original->port_be;
    answer->flow = 0;
    for (int i = 0; i < 4; ++i) answer->address_be[i] = word(original, i);
    answer->scope = 0;
    question->optlen = sizeof *answer;
    barrier(); /* else both are written at once, which the verifier does not let through */
    question->retval = 0;
}

SEC("cgroup/getsockopt")
int proxify_original(struct bpf_sockopt* question) {
    /* Of a longer answer the kernel shows us the first page only, and before Linux 6.4 lets the
     * call fail if we leave its length as it is. 0 is for "as it was". */
    if (question->optlen > OPTION_SHOWN_MAX) {
        question->optlen = 0;
        return 1;
    }
    if (question->optname != SO_ORIGINAL_DST) return 1;
    if (question->level != SOL_IP && question->level != SOL_IPV6) return 1;
    const struct connect_end* original = original_of(question);
    if (!original) return 1;
    if (question->level == SOL_IP && is_v4(original)) answer_v4(question, original);
    if (question->level == SOL_IPV6 && !is_v4(original)) answer_v6(question, original);
    return 1;
}
