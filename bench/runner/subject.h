// SPDX-License-Identifier: Apache-2.0
// Subjects: the programs that are compared, and the stage on which one of them stands.
//
// All get the same work: the same ports, the same targets in turn, no logging, no health checks,
// TCP_NODELAY, the same backlog. `bench --show-config` prints what each of them is given.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runner/arena.h"
#include "runner/process.h"

namespace proxify::bench {

/// Where things are and what this machine has.
struct World {
    std::string folder;  ///< for config files and logs
    std::string load;
    std::string target;
    std::string proxify;
    std::string haproxy;  ///< empty: not installed
    std::string nginx;
    std::string nginx_stream_module;
    std::vector<int> cores;
    int descriptors_max = 0;
    std::string cgroup;  ///< for clients, where a set-up wants one; empty: there is no cgroup2
};

enum class Program { none, proxify, haproxy, nginx };

struct Subject {
    std::string id;
    std::string title;
    Program program = Program::none;
    bool variant = false;  ///< proxify -b; HAProxy with splice
};

const std::vector<Subject>& all_subjects();
const Subject& subject(const std::string& id);

struct PortSpan {
    uint16_t first = 0;
    uint16_t last = 0;
};

/// How clients come to proxify when it is not by dialling its ports over loopback. They always dial
/// `way_address` at the echo port.
struct Way {
    bool is_remote = false;    ///< they are on another host: a network with a cable to ours
    bool in_cgroup = false;    ///< they are in a cgroup of their own
    uint16_t own_port = 0;     ///< that the service listens on itself; 0: none
    std::string capture = {};  ///< what its [[capture]] says; empty: it has none
    std::string rules = {};    ///< for the shell, on proxify's host, before it starts
};

/// How a subject is to be set up.
struct Setup {
    bool pinned = true;  ///< one worker on a core of its own; otherwise one for each core, anywhere
    bool must_copy = false;             ///< every byte passes through user space
    bool has_bulk = true;               ///< the bulk port is configured too
    std::string keys;                   ///< lines that each service of proxify has besides
    std::vector<PortSpan> extra_ports;  ///< that lead to the echo target too
    std::string ephemeral_ports;
    std::optional<Way> way;
    std::string certificate;  ///< and its key, a file; clients speak TLS then
};

constexpr uint16_t echo_port = 5001;
constexpr uint16_t bulk_port = 5002;
constexpr uint16_t steering_port = 8080;
constexpr uint16_t target_echo_port = 62001;  // above what any set-up configures or dials from
constexpr uint16_t target_bulk_port = 62002;
constexpr int target_addresses = 8;
constexpr const char* first_target_address = "127.0.0.11";
constexpr int listener_backlog = 4096;
constexpr const char* way_address = "198.51.100.1";
constexpr const char* first_client_address = "198.51.100.32";
constexpr int client_addresses = 16;

/// The config file of a subject.
std::string config_for(const World& world, const Subject& subject, const Setup& setup);
std::vector<std::string> command_for(const World& world, const Subject& subject,
                                     const std::string& config_path);
/// What a service of proxify has when clients speak TLS.
std::string tls_key(const std::string& certificate);
/// Whether this proxify knows a key; the bench may be newer than the program it measures.
bool proxify_takes(const World& world, const std::string& section, const std::string& line);

/// A command for the shell that has all sessions listed once a second; empty when there is none.
std::string lister_for(const World& world, const Subject& subject);

/// A target and a subject that run in a fresh network.
class Stage {
  public:
    /// Returns when every port of the set-up leads to the target.
    static Result<Stage> set(const World& world, const Subject& subject, const Setup& setup);

    /// Runs the load to its end and gives what it said; an error of the load is a failure.
    Result<std::string> run_load(std::vector<std::string> words, Patience patience);
    Result<Process> start_load(std::vector<std::string> words);
    /// Something else beside the load, on the load's core.
    Result<Process> start_beside(const std::string& shell_command);
    /// Rewrites the config file as a whole, and tells the subject if it has to be told.
    Result<> reconfigure(const Setup& setup);
    /// Everything leaves; fails if something does not, or was gone before.
    Result<> strike();

    const Subject& who() const { return *subject_; }
    bool is_direct() const { return subject_->program == Program::none; }
    /// The processes that are the subject; for *direct* that is the target.
    std::vector<int> measured() const;
    /// Where clients of the echo (or bulk) port go.
    std::vector<std::string> echo_address() const;
    std::vector<std::string> bulk_address() const;
    double start_seconds() const { return start_seconds_; }

  private:
    Stage(const World& world, const Subject& subject, Setup setup)
        : world_(&world), subject_(&subject), setup_(std::move(setup)) {}
    Result<> lay_way();
    Result<> run_line(const std::string& line, int network = -1);
    Result<> start_target();
    Result<> start_subject();
    bool answers(uint16_t port);
    std::vector<int> subject_cores() const;
    std::vector<int> other_cores() const;

    const World* world_;
    const Subject* subject_;
    Setup setup_;
    Fd tally_;
    Fd client_network_;
    std::optional<Cgroup> cgroup_;
    std::string config_path_;
    std::optional<Process> target_;
    std::optional<Process> process_;
    double start_seconds_ = 0;
};

/// Connects to 127.0.0.1 and asks for an echo. `refused` tells apart a port that nobody has.
enum class Answer { echo, refused, nothing };
Answer ask(uint16_t port, const char* address = "127.0.0.1");

}  // namespace proxify::bench
