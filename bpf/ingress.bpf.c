// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Ingress: connections that come in by a network interface and dial a captured port go to our
 * listener, or have that port rewritten to the one where another program listens; see ingress.h.
 *
 * proxify_ingress and proxify_egress are attached to every interface but loopback. So what this
 * host says to itself never meets them; what it forwards does, and is left alone. Each is there a
 * second time for interfaces without an Ethernet header (tun, wireguard). They answer
 * TC_ACT_UNSPEC, which lets other people's filters have the packet next. Only a SYN is ever
 * dropped, and only where two connections would become one: whatever else goes wrong here ends in a
 * packet that is passed on as it came.
 *
 * A SYN is all that needs a decision. A connection that our listener has is found by the kernel
 * itself from then on. Packets of a flow are found by its 4-tuple. Whether a flow still lives is
 * never written down: the kernel's own sockets are asked, and only when a SYN comes.
 *
 * A router that cannot pass on an answer of a flow says so in an ICMP error, which quotes the port
 * that it saw. The kernel finds the socket by the port that is quoted, so this one is rewritten as
 * well; without that a flow would never hear of a smaller MTU on its path.
 *
 * proxify_arrive is for the moments in which the kernel looks for a listener by itself, past what
 * proxify_ingress decided, and would find none, or somebody else's on the captured port: a SYN for
 * a connection in TIME_WAIT, the ACK that answers a SYN cookie. It is an sk_lookup program, and
 * cannot tell what came in by an interface from what this host says to an address of its own: both
 * show the interface of the address. So proxify_ingress leaves word of each SYN that it has seen.
 */
#include <linux/bpf.h>

#include <linux/errno.h>
#include <linux/icmpv6.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/socket.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "ingress.h"

enum { /* linux/icmp.h includes libc */
       ICMP_DEST_UNREACH = 3,
       ICMP_REDIRECT = 5,
       ICMP_TIME_EXCEEDED = 11,
       ICMP_PARAMETERPROB = 12,
};

#ifndef AF_INET
#define AF_INET 2 /* linux/socket.h leaves these to libc */
#define AF_INET6 10
#endif

char _license[] SEC("license") = "Dual BSD/GPL";

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, INGRESS_PORTS_MAX);
    __type(key, __u32);
    __type(value, struct ingress_port);
} ingress_ports SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __uint(max_entries, INGRESS_SCOPES_MAX);
    __type(key, struct ingress_scope);
    __type(value, __u8);
} ingress_scopes SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_SOCKMAP);
    __uint(max_entries, INGRESS_LISTENERS_MAX);
    __type(key, __u32);
    __type(value, __u64);
} ingress_listeners SEC(".maps");

/* LRU, because nobody tells when a flow is over. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, INGRESS_FLOWS_MAX);
    __type(key, struct ingress_tuple);
    __type(value, struct ingress_flow);
} ingress_flows SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, INGRESS_FLOWS_MAX);
    __type(key, struct ingress_tuple);
    __type(value, struct ingress_flow);
} ingress_answers SEC(".maps");

/* SYNs that came in lately for our listeners, for proxify_arrive. */
struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, INGRESS_FLOWS_MAX);
    __type(key, struct ingress_tuple);
    __type(value, __u8);
} ingress_syns SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, INGRESS_COUNTERS_MAX);
    __type(key, __u32);
    __type(value, __u64);
} ingress_counts SEC(".maps");

static __always_inline void count(__u32 reason) {
    __u64* counter = bpf_map_lookup_elem(&ingress_counts, &reason);
    if (counter) *counter += 1;
}

// ---- reading packets

enum {
    TCP_FIN = 1,
    TCP_SYN = 2,
    TCP_RST = 4,
    TCP_ACK = 16,
    EXTENSION_HEADERS_MAX = 4,
};

struct packet {
    __u8 source[16]; /* v4-mapped where it is IPv4 */
    __u8 destination[16];
    __be16 source_be;
    __be16 destination_be;
    __be32 sequence_be;
    __u32 transport; /* where the header of TCP or ICMP begins */
    __u8 protocol;   /* IPPROTO_TCP, _ICMP or _ICMPV6 */
    __u8 tcp_flags;
    _Bool is_v4;
};

static __always_inline _Bool is_vlan(__be16 protocol_be) {
    return protocol_be == bpf_htons(ETH_P_8021Q) || protocol_be == bpf_htons(ETH_P_8021AD);
}

static __always_inline void map_v4(__u8* address, __be32 v4) {
    __u32* words = (__u32*)address;
    words[0] = words[1] = 0;
    words[2] = bpf_htonl(0xffff);
    words[3] = v4;
}

static __always_inline _Bool read_v4(struct __sk_buff* skb, __u32 at, struct packet* packet) {
    struct iphdr ip;
    if (bpf_skb_load_bytes(skb, at, &ip, sizeof ip)) return 0;
    if (ip.version != 4 || ip.ihl < 5) return 0;
    if (ip.protocol != IPPROTO_TCP && ip.protocol != IPPROTO_ICMP) return 0;
    const __u16 more_fragments = 0x2000, offset = 0x1fff;
    if (ip.frag_off & bpf_htons(more_fragments | offset)) {
        count(INGRESS_passed_fragment);
        return 0;
    }
    map_v4(packet->source, ip.saddr);
    map_v4(packet->destination, ip.daddr);
    packet->transport = at + ip.ihl * 4;
    packet->protocol = ip.protocol;
    packet->is_v4 = 1;
    return 1;
}

static __always_inline _Bool read_v6(struct __sk_buff* skb, __u32 at, struct packet* packet) {
    struct ipv6hdr ip;
    if (bpf_skb_load_bytes(skb, at, &ip, sizeof ip) || ip.version != 6) return 0;
    __builtin_memcpy(packet->source, &ip.saddr, 16);
    __builtin_memcpy(packet->destination, &ip.daddr, 16);
    at += sizeof ip;
    __u8 next = ip.nexthdr;
    for (int i = 0; i < EXTENSION_HEADERS_MAX; ++i) {
        if (next == IPPROTO_TCP || next == IPPROTO_ICMPV6) break;
        if (next == IPPROTO_FRAGMENT) count(INGRESS_passed_fragment);
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS) return 0;
        struct ipv6_opt_hdr extension;
        if (bpf_skb_load_bytes(skb, at, &extension, sizeof extension)) return 0;
        at += (extension.hdrlen + 1) * 8;
        next = extension.nexthdr;
    }
    packet->transport = at;
    packet->protocol = next;
    packet->is_v4 = 0;
    return next == IPPROTO_TCP || next == IPPROTO_ICMPV6;
}

static __always_inline _Bool read_tcp(struct __sk_buff* skb, struct packet* packet) {
    struct {
        __be16 source, dest;
        __be32 seq, ack_seq;
        __u8 length, flags;
    } tcp;
    if (bpf_skb_load_bytes(skb, packet->transport, &tcp, 14)) return 0;
    packet->source_be = tcp.source;
    packet->destination_be = tcp.dest;
    packet->sequence_be = tcp.seq;
    packet->tcp_flags = tcp.flags;
    return 1;
}

/* False for all that is not TCP or ICMP, whole, and in a form that is understood. */
static __always_inline _Bool read_packet(struct __sk_buff* skb, __u32 link_header,
                                         struct packet* packet) {
    /* The kernel has taken a tag out of the packet before this program sees it. One that is
     * still there is an inner one, or was put in by what hands the packet over. */
    __be16 protocol_be = skb->protocol;
    __u32 at = link_header;
    for (int i = 0; i < 2 && link_header && is_vlan(protocol_be); ++i) {
        if (bpf_skb_load_bytes(skb, at + 2, &protocol_be, sizeof protocol_be)) return 0;
        at += 4;
    }
    _Bool is_read = protocol_be == bpf_htons(ETH_P_IP)     ? read_v4(skb, at, packet)
                    : protocol_be == bpf_htons(ETH_P_IPV6) ? read_v6(skb, at, packet)
                                                           : 0;
    return is_read && (packet->protocol != IPPROTO_TCP || read_tcp(skb, packet));
}

static __always_inline _Bool is_first_syn(const struct packet* packet) {
    return (packet->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST | TCP_FIN)) == TCP_SYN;
}

static __always_inline struct ingress_port* find_port(__be16 port_be) {
    __u32 port = bpf_ntohs(port_be);
    return bpf_map_lookup_elem(&ingress_ports, &port);
}

/* Of a packet that came in. */
static __always_inline struct ingress_tuple tuple_of(const struct packet* packet,
                                                     __be16 host_port_be) {
    struct ingress_tuple tuple = {.client_port_be = packet->source_be,
                                  .host_port_be = host_port_be};
    __builtin_memcpy(tuple.client, packet->source, 16);
    __builtin_memcpy(tuple.host, packet->destination, 16);
    return tuple;
}

static __always_inline struct ingress_tuple with_port(const struct ingress_tuple* tuple,
                                                      __be16 host_port_be) {
    struct ingress_tuple other = *tuple;
    other.host_port_be = host_port_be;
    return other;
}

// ---- questions

/* Whether new connections to the port are captured at this interface. */
static __always_inline _Bool is_captured_at(__u32 interface, const struct ingress_port* port) {
    if (!(port->flags & (INGRESS_LISTEN | INGRESS_REWRITE))) return 0;
    struct ingress_scope key = {.interface = interface, .scope = port->scope};
    return !port->scope || bpf_map_lookup_elem(&ingress_scopes, &key);
}

/*
 * The kernel forwards what it has a unicast route for. Everything else is ours or nobody's, and
 * what is nobody's gets no further whatever its port. An interface that does not forward says so
 * before it looks for a route.
 */
static __always_inline _Bool is_for_this_host(struct __sk_buff* skb, const struct packet* packet) {
    struct bpf_fib_lookup route = {.l4_protocol = IPPROTO_TCP,
                                   .sport = packet->source_be,
                                   .dport = packet->destination_be,
                                   .ifindex = skb->ifindex};
    if (packet->is_v4) {
        route.family = AF_INET;
        __builtin_memcpy(&route.ipv4_src, packet->source + 12, 4);
        __builtin_memcpy(&route.ipv4_dst, packet->destination + 12, 4);
    } else {
        route.family = AF_INET6;
        __builtin_memcpy(route.ipv6_src, packet->source, 16);
        __builtin_memcpy(route.ipv6_dst, packet->destination, 16);
    }
    long answer = bpf_fib_lookup(skb, &route, sizeof route, 0);
    return answer == BPF_FIB_LKUP_RET_NOT_FWDED || answer == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* The state of the socket that the kernel has for packets from this client to a port of this host:
 * of a connection, else of a listener; 0 where there is none. */
static __always_inline __u32 socket_state(struct __sk_buff* skb, const struct packet* packet,
                                          __be16 host_port_be) {
    struct bpf_sock_tuple tuple = {};
    __u32 size;
    if (packet->is_v4) {
        __builtin_memcpy(&tuple.ipv4.saddr, packet->source + 12, 4);
        __builtin_memcpy(&tuple.ipv4.daddr, packet->destination + 12, 4);
        tuple.ipv4.sport = packet->source_be;
        tuple.ipv4.dport = host_port_be;
        size = sizeof tuple.ipv4;
    } else {
        __builtin_memcpy(tuple.ipv6.saddr, packet->source, 16);
        __builtin_memcpy(tuple.ipv6.daddr, packet->destination, 16);
        tuple.ipv6.sport = packet->source_be;
        tuple.ipv6.dport = host_port_be;
        size = sizeof tuple.ipv6;
    }
    struct bpf_sock* socket = bpf_skc_lookup_tcp(skb, &tuple, size, BPF_F_CURRENT_NETNS, 0);
    if (!socket) return 0;
    __u32 state = socket->state;
    bpf_sk_release(socket);
    return state;
}

/* Neither a listener is a connection that lives, nor what is left of one that is over. */
static __always_inline _Bool lives(__u32 state) {
    return state && state != BPF_TCP_LISTEN && state != BPF_TCP_TIME_WAIT && state != BPF_TCP_CLOSE;
}

// ---- answers

static __always_inline int pass(__u32 reason) {
    count(reason);
    return TC_ACT_UNSPEC;
}

/* Puts a port in the place of another one. The checksum that covers it is TCP's or ICMP's, and is
 * put right without a look at the rest; where the network card is still to compute it, the kernel
 * leaves it alone. */
static __always_inline int rewrite(struct __sk_buff* skb, __u32 checksum, __u32 at, __be16 from_be,
                                   __be16 to_be, __u32 reason) {
    if (bpf_l4_csum_replace(skb, checksum, from_be, to_be, sizeof to_be))
        return pass(INGRESS_passed_not_written);
    if (bpf_skb_store_bytes(skb, at, &to_be, sizeof to_be, 0)) {
        /* What could be written a moment ago cannot be now. */
        bpf_l4_csum_replace(skb, checksum, to_be, from_be, sizeof to_be);
        return pass(INGRESS_passed_not_written);
    }
    return pass(reason);
}

static __always_inline int rewrite_destination(struct __sk_buff* skb, const struct packet* packet,
                                               __be16 to_be) {
    return rewrite(skb, packet->transport + __builtin_offsetof(struct tcphdr, check),
                   packet->transport + __builtin_offsetof(struct tcphdr, dest),
                   packet->destination_be, to_be, INGRESS_rewritten_in);
}

static __always_inline int hand_over(struct __sk_buff* skb, const struct packet* packet,
                                     const struct ingress_tuple* dialled, __u32 slot) {
    __u8 value = 0;
    bpf_map_update_elem(&ingress_syns, dialled, &value, BPF_ANY);
    /* A SYN that is sent again, or that comes for a connection of before, is for the socket that
     * has it: given our listener, the kernel would not look for that one. A socket in TIME_WAIT
     * gives way to a SYN that is new enough, and then proxify_arrive is asked. */
    __u32 state = socket_state(skb, packet, packet->destination_be);
    if (state && state != BPF_TCP_LISTEN) return pass(INGRESS_passed_has_socket);
    /* The slot empties itself when the listener is closed. */
    struct bpf_sock* listener = bpf_map_lookup_elem(&ingress_listeners, &slot);
    if (!listener) return pass(INGRESS_passed_no_listener);
    /* Before Linux 6.6 it takes no member of a group of listeners; proxify_arrive does. */
    long error = bpf_sk_assign(skb, listener, 0);
    bpf_sk_release(listener);
    return pass(error ? INGRESS_passed_not_assigned : INGRESS_assigned);
}

// ---- flows

static __always_inline int begin_flow(struct __sk_buff* skb, const struct packet* packet,
                                      const struct ingress_tuple* dialled, __be16 to_be) {
    struct ingress_tuple answers = with_port(dialled, to_be);
    struct ingress_flow* other = bpf_map_lookup_elem(&ingress_answers, &answers);
    /* A client may use one port of its own to dial two ports of ours. Where both become one, the
     * second has to wait until the first is over: it sends its SYN again for a while. */
    if (lives(socket_state(skb, packet, to_be))) {
        count(INGRESS_dropped_same_client);
        return TC_ACT_SHOT;
    }
    if (other) {
        struct ingress_tuple stale = with_port(dialled, other->port_be);
        bpf_map_delete_elem(&ingress_flows, &stale);
    }
    struct ingress_flow there = {.port_be = to_be, .syn_be = packet->sequence_be};
    struct ingress_flow back = {.port_be = dialled->host_port_be, .syn_be = packet->sequence_be};
    if (bpf_map_update_elem(&ingress_answers, &answers, &back, BPF_ANY))
        return pass(INGRESS_passed_no_room);
    if (bpf_map_update_elem(&ingress_flows, dialled, &there, BPF_ANY)) {
        bpf_map_delete_elem(&ingress_answers, &answers);
        return pass(INGRESS_passed_no_room);
    }
    count(INGRESS_flows);
    return rewrite_destination(skb, packet, to_be);
}

static __always_inline void forget_flow(const struct ingress_tuple* dialled, __be16 to_be) {
    struct ingress_tuple answers = with_port(dialled, to_be);
    bpf_map_delete_elem(&ingress_flows, dialled);
    bpf_map_delete_elem(&ingress_answers, &answers);
}

/* A SYN that meets a flow of its own: it is sent again, or the client begins anew from there. False
 * when the flow is none any more. */
static __always_inline _Bool continues_flow(struct __sk_buff* skb, const struct packet* packet,
                                            const struct ingress_port* port,
                                            const struct ingress_tuple* dialled,
                                            struct ingress_flow* flow) {
    struct ingress_tuple answers = with_port(dialled, flow->port_be);
    struct ingress_flow* back = bpf_map_lookup_elem(&ingress_answers, &answers);
    if (!back || back->port_be != dialled->host_port_be) return 0;
    const _Bool leads_there_still =
        port->flags & INGRESS_REWRITE && bpf_ntohs(flow->port_be) == port->to_port;
    /* While a socket has the flow it goes there, whatever the port means by now: a client that has
     * crashed and does not know of it has to hear of it. */
    if (!leads_there_still && !lives(socket_state(skb, packet, flow->port_be))) return 0;
    flow->syn_be = back->syn_be = packet->sequence_be;
    return 1;
}

static __always_inline int take_syn(struct __sk_buff* skb, const struct packet* packet,
                                    const struct ingress_port* port) {
    struct ingress_tuple dialled = tuple_of(packet, packet->destination_be);
    if (port->flags & INGRESS_ANSWERS) {
        struct ingress_flow* answers = bpf_map_lookup_elem(&ingress_answers, &dialled);
        /* One that was rewritten at an interface below this one: a bridge or a VLAN lies above. */
        if (answers && answers->syn_be == packet->sequence_be) return TC_ACT_UNSPEC;
        /* Somebody dials the other program directly, from the address and port of a flow. */
        if (answers && lives(socket_state(skb, packet, packet->destination_be))) {
            count(INGRESS_dropped_same_client);
            return TC_ACT_SHOT;
        }
        if (answers) { /* the flow is over */
            struct ingress_tuple flow = with_port(&dialled, answers->port_be);
            forget_flow(&flow, dialled.host_port_be);
        }
    }
    const _Bool is_captured = is_captured_at(skb->ifindex, port);
    if (!is_captured && !(port->flags & INGRESS_FLOWS)) return TC_ACT_UNSPEC;
    if (!is_for_this_host(skb, packet)) return pass(INGRESS_passed_forwarded);

    if (port->flags & INGRESS_FLOWS) {
        struct ingress_flow* flow = bpf_map_lookup_elem(&ingress_flows, &dialled);
        if (flow && continues_flow(skb, packet, port, &dialled, flow))
            return rewrite_destination(skb, packet, flow->port_be);
        if (flow) forget_flow(&dialled, flow->port_be);
    }
    if (!is_captured) return TC_ACT_UNSPEC;
    if (port->flags & INGRESS_LISTEN) return hand_over(skb, packet, &dialled, port->listener);
    return begin_flow(skb, packet, &dialled, bpf_htons(port->to_port));
}

/* What is quoted behind the eight bytes of the header is a packet that went the other way. */
static __always_inline _Bool is_error(const struct packet* packet, __u8 type) {
    if (packet->is_v4)
        return packet->protocol == IPPROTO_ICMP &&
               (type == ICMP_DEST_UNREACH || type == ICMP_REDIRECT || type == ICMP_TIME_EXCEEDED ||
                type == ICMP_PARAMETERPROB);
    return packet->protocol == IPPROTO_ICMPV6 &&
           (type == ICMPV6_DEST_UNREACH || type == ICMPV6_PKT_TOOBIG ||
            type == ICMPV6_TIME_EXCEED || type == ICMPV6_PARAMPROB);
}

/* An ICMP error that is about an answer of a flow. That the quoted packet is one tells all that
 * there is to know: the host of a flow is this one. At least eight bytes of its TCP header are
 * there; its checksum may not be, and nobody looks at it. */
static __always_inline int take_error(struct __sk_buff* skb, const struct packet* packet) {
    struct {
        __u8 type, code;
        __be16 checksum;
        __be32 rest;
    } icmp;
    if (bpf_skb_load_bytes(skb, packet->transport, &icmp, sizeof icmp)) return TC_ACT_UNSPEC;
    if (!is_error(packet, icmp.type)) return TC_ACT_UNSPEC;
    struct packet quoted;
    const __u32 at = packet->transport + sizeof icmp;
    if (packet->is_v4 ? !read_v4(skb, at, &quoted) : !read_v6(skb, at, &quoted))
        return TC_ACT_UNSPEC;
    struct {
        __be16 source, dest;
    } ports;
    if (quoted.protocol != IPPROTO_TCP ||
        bpf_skb_load_bytes(skb, quoted.transport, &ports, sizeof ports))
        return TC_ACT_UNSPEC;
    struct ingress_port* port = find_port(ports.source);
    if (!port || !(port->flags & INGRESS_FLOWS)) return TC_ACT_UNSPEC;

    struct ingress_tuple dialled = {.client_port_be = ports.dest, .host_port_be = ports.source};
    __builtin_memcpy(dialled.client, quoted.destination, 16);
    __builtin_memcpy(dialled.host, quoted.source, 16);
    struct ingress_flow* flow = bpf_map_lookup_elem(&ingress_flows, &dialled);
    if (!flow) return pass(INGRESS_passed_no_flow);
    return rewrite(skb, packet->transport + 2, quoted.transport, ports.source, flow->port_be,
                   INGRESS_rewritten_error);
}

static __always_inline int come_in(struct __sk_buff* skb, __u32 link_header) {
    if (skb->pkt_type != PACKET_HOST) return TC_ACT_UNSPEC; /* a bridge hears others as well */
    struct packet packet;
    if (!read_packet(skb, link_header, &packet)) return TC_ACT_UNSPEC;
    if (packet.protocol != IPPROTO_TCP) return take_error(skb, &packet);
    struct ingress_port* port = find_port(packet.destination_be);
    if (!port || !port->flags) return TC_ACT_UNSPEC;
    if (is_first_syn(&packet)) return take_syn(skb, &packet, port);

    if (!(port->flags & INGRESS_FLOWS)) return TC_ACT_UNSPEC;
    struct ingress_tuple dialled = tuple_of(&packet, packet.destination_be);
    struct ingress_flow* flow = bpf_map_lookup_elem(&ingress_flows, &dialled);
    if (!flow) return pass(INGRESS_passed_no_flow);
    return rewrite_destination(skb, &packet, flow->port_be);
}

static __always_inline int go_out(struct __sk_buff* skb, __u32 link_header) {
    struct packet packet;
    if (!read_packet(skb, link_header, &packet)) return TC_ACT_UNSPEC;
    if (packet.protocol != IPPROTO_TCP) return TC_ACT_UNSPEC;
    struct ingress_port* port = find_port(packet.source_be);
    if (!port || !(port->flags & INGRESS_ANSWERS)) return TC_ACT_UNSPEC;

    struct ingress_tuple answers = {.client_port_be = packet.destination_be,
                                    .host_port_be = packet.source_be};
    __builtin_memcpy(answers.client, packet.destination, 16);
    __builtin_memcpy(answers.host, packet.source, 16);
    struct ingress_flow* answer = bpf_map_lookup_elem(&ingress_answers, &answers);
    if (!answer) return TC_ACT_UNSPEC;
    __be16 dialled_be = answer->port_be;
    /* Either half may have been forgotten. Asking for both keeps both in memory, and one alone is
     * worth nothing. The same if this host itself begins a connection from here. */
    struct ingress_tuple dialled = with_port(&answers, dialled_be);
    struct ingress_flow* flow = bpf_map_lookup_elem(&ingress_flows, &dialled);
    if (!flow || flow->port_be != packet.source_be || is_first_syn(&packet)) {
        bpf_map_delete_elem(&ingress_answers, &answers);
        return TC_ACT_UNSPEC;
    }
    return rewrite(skb, packet.transport + __builtin_offsetof(struct tcphdr, check),
                   packet.transport + __builtin_offsetof(struct tcphdr, source), packet.source_be,
                   dialled_be, INGRESS_rewritten_out);
}

SEC("tc")
int proxify_ingress(struct __sk_buff* skb) {
    return come_in(skb, ETH_HLEN);
}

SEC("tc")
int proxify_egress(struct __sk_buff* skb) {
    return go_out(skb, ETH_HLEN);
}

/* For interfaces whose packets begin with the IP header. */
SEC("tc")
int proxify_in_l3(struct __sk_buff* skb) {
    return come_in(skb, 0);
}

SEC("tc")
int proxify_out_l3(struct __sk_buff* skb) {
    return go_out(skb, 0);
}

SEC("sk_lookup")
int proxify_arrive(struct bpf_sk_lookup* lookup) {
    if (lookup->protocol != IPPROTO_TCP) return SK_PASS;
    __u32 dialled = lookup->local_port;
    struct ingress_port* port = bpf_map_lookup_elem(&ingress_ports, &dialled);
    if (!port || !(port->flags & INGRESS_LISTEN)) return SK_PASS;

    struct ingress_tuple tuple = {.client_port_be = lookup->remote_port,
                                  .host_port_be = bpf_htons(lookup->local_port)};
    if (lookup->family == AF_INET) {
        __be32 client = lookup->remote_ip4, host = lookup->local_ip4;
        /* Else clang makes one read of both branches, at an offset that it computes, and the
         * verifier wants constant ones. */
        barrier_var(client);
        barrier_var(host);
        map_v4(tuple.client, client);
        map_v4(tuple.host, host);
    } else {
        __u32 client[4] = {lookup->remote_ip6[0], lookup->remote_ip6[1], lookup->remote_ip6[2],
                           lookup->remote_ip6[3]};
        __u32 host[4] = {lookup->local_ip6[0], lookup->local_ip6[1], lookup->local_ip6[2],
                         lookup->local_ip6[3]};
        __builtin_memcpy(tuple.client, client, 16);
        __builtin_memcpy(tuple.host, host, 16);
    }
    if (!bpf_map_lookup_elem(&ingress_syns, &tuple)) return SK_PASS;
    __u32 slot = port->listener;
    struct bpf_sock* listener = bpf_map_lookup_elem(&ingress_listeners, &slot);
    if (!listener) return SK_PASS;
    bpf_sk_assign(lookup, listener, 0); /* another program's choice stands: it was asked first */
    bpf_sk_release(listener);
    return SK_PASS;
}
