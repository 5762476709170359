// SPDX-License-Identifier: Apache-2.0
// IngressProgram: bpf/ingress.bpf.c and its maps, in the kernel for as long as this object lives;
// and Hook, its place at one network interface.
//
// Nothing is pinned. Where the kernel has tcx links (6.6) a hook ends with the process, however it
// ends. Elsewhere it is a filter of a clsact queueing discipline, which stays behind when the
// process is killed; the next one that hooks the interface finds it by its place and its name, and
// takes it away. All calls work in the network namespace of the calling thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "kernel/interfaces.h"
#include "kernel/steering_program.h"

struct bpf_link;
struct ingress;  // the generated skeleton

namespace proxify::kernel {

/// The name that bpftool shows for the program that is there as long as proxify has this door open.
inline constexpr std::string_view ingress_program_name = "proxify_arrive";

/// How programs are attached to an interface.
enum class HookKind : uint8_t {
    tcx,     ///< bpf_link, since Linux 6.6
    clsact,  ///< a filter, as `tc filter` shows it
};

/// Whether this kernel has tcx links.
bool has_tcx();

/// What becomes of connections to a port; of both, `to_port` is asked first.
struct IngressPort {
    std::optional<uint16_t> to_port = {};   ///< the port they are rewritten to
    std::optional<uint32_t> listener = {};  ///< the place of the listener that gets them
    /// New connections are captured at interfaces of this scope only; 0 is all interfaces.
    uint8_t scope = 0;
    /// It may have flows: it has, or once had, a to_port.
    bool has_flows = false;
    /// It is, or once was, the to_port of another.
    bool has_answers = false;
    bool operator==(const IngressPort&) const = default;
};

class IngressProgram;

/// The programs at one interface, ingress and egress; the end of the object takes them away.
class Hook {
  public:
    Hook(Hook&& other) noexcept;
    Hook& operator=(Hook&& other) noexcept;
    ~Hook();

    const Interface& interface() const { return interface_; }
    HookKind kind() const { return kind_; }
    /// An interface may have got another name.
    void rename(std::string name) { interface_.name = std::move(name); }
    /// False once the interface is gone, or somebody has taken the programs away.
    bool is_there() const;

  private:
    friend class IngressProgram;
    Hook(Interface interface, HookKind kind) : interface_(std::move(interface)), kind_(kind) {}
    void unhook();

    Interface interface_;
    HookKind kind_;
    Fd ingress_, egress_;         ///< tcx links
    uint32_t ids_[2] = {};        ///< of clsact: the programs, ingress first; 0 for none
    bool is_qdisc_ours_ = false;  ///< of clsact: it was made for us
};

class IngressProgram {
  public:
    /// Loads programs and maps. They take nothing until hook(). `flows_max` bounds the connections
    /// that are rewritten at a time: about 350 bytes for each, at once.
    static Result<IngressProgram> load(uint32_t flows_max = 65536);

    /// Holds the door of this network namespace, until the end of the object; an error if another
    /// proxify has it. The program that is attached for this finds our listeners where the kernel
    /// looks for them by itself.
    Result<> open_door();

    /// The listening socket that gets connections of `IngressPort::listener`, AF_INET6 with
    /// IPV6_V6ONLY off if it is to have those of both families. At most 256 places.
    Result<> set_listener(uint32_t place, int listener_fd);

    /// Each port's entry changes in one step.
    Result<> set_port(uint16_t port, const IngressPort& entry);

    /// Whether an interface belongs to a scope, of which there may be 255. An interface of this
    /// number that comes later does too.
    Result<> set_scope(uint8_t scope, uint32_t interface, bool belongs);

    /// Attaches ingress and egress to an interface. `hook.kind` is as asked. nullopt when the
    /// interface has gone meanwhile, which is no error.
    Result<std::optional<Hook>> hook(const Interface& interface, HookKind kind);

    /// Since the programs were loaded, on all CPUs together.
    Result<std::vector<Counter>> counters() const;

    struct Ids {
        uint32_t ingress = 0;  ///< program
        uint32_t egress = 0;   ///< program
        uint32_t ports = 0;    ///< map
    };
    Result<Ids> ids() const;

    /// For BPF_PROG_RUN in tests.
    int ingress_fd(bool has_ethernet = true) const;
    int egress_fd(bool has_ethernet = true) const;

  private:
    struct DestroyObject {
        void operator()(::ingress* object) const;
    };
    struct DestroyLink {
        void operator()(bpf_link* link) const;
    };
    explicit IngressProgram(::ingress* object) : object_(object) {}
    Result<bool> attach_tcx(Hook& hook) const;
    Result<bool> attach_clsact(Hook& hook) const;

    std::unique_ptr<::ingress, DestroyObject> object_;
    std::unique_ptr<bpf_link, DestroyLink> door_;
};

}  // namespace proxify::kernel
