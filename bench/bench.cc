// SPDX-License-Identifier: Apache-2.0
// The runner: measures proxify and its peers at the same work, in turn, and compares.
// docs/performance.md explains how to read what comes out.
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>

#include "base/format.h"
#include "common/arguments.h"
#include "common/wire.h"
#include "runner/arena.h"
#include "runner/report.h"
#include "runner/work.h"

namespace proxify::bench {

namespace {

constexpr const char* help =
    "usage: bench [option]...\n"
    "  --quick            once, and briefly: shows that everything works, not how fast it is\n"
    "  --only LIST        groups or rows: ping,connect,bulk,copy,idle,listed,ports,reload,"
    "doors,\n"
    "                     elements,tls or ping-64-1000\n"
    "  --sets LIST        pinned,free\n"
    "  --subjects LIST    direct,proxify,proxify-b,haproxy,haproxy-splice,nginx\n"
    "  --repeat N         repetitions, each with all subjects in turn (default 3)\n"
    "  --seconds S        length of one measurement (default 2)\n"
    "  --proxify PATH     the proxify to measure\n"
    "  --out FOLDER       where latest.json and the pictures go (default docs/performance for a "
    "full\n"
    "                     run; a part of it writes nothing without --out)\n"
    "  --list             names the rows\n"
    "  --show-config      prints what each subject is given\n"
    "It needs root, for namespaces and for proxify -b.\n";

struct Plan {
    Timing timing;
    int repetitions = 3;
    std::vector<Work> works;
    std::vector<Subject> subjects;
    std::string out;
};

// ---- what there is

std::string find_program(std::initializer_list<const char*> paths) {
    for (const char* path : paths) {
        if (access(path, R_OK) == 0) return path;
    }
    return {};
}

Result<World> look_around(const Arguments& arguments) {
    World world;
    auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    world.load = here / "load";
    world.target = here / "target";
    world.proxify = std::filesystem::absolute(arguments.text("proxify", here / "../src/proxify"))
                        .lexically_normal();
    if (access(world.proxify.c_str(), X_OK) < 0)
        return fail(Error::of("there is no proxify at " + world.proxify, "name it with --proxify"));
    world.haproxy = find_program({"/usr/sbin/haproxy", "/usr/local/sbin/haproxy"});
    world.nginx_stream_module = find_program({"/usr/lib/nginx/modules/ngx_stream_module.so",
                                              "/usr/lib64/nginx/modules/ngx_stream_module.so"});
    if (!world.nginx_stream_module.empty()) world.nginx = find_program({"/usr/sbin/nginx"});

    cpu_set_t cores;
    sched_getaffinity(0, sizeof cores, &cores);
    for (int core = 0; core < CPU_SETSIZE; ++core) {
        if (CPU_ISSET(core, &cores)) world.cores.push_back(core);
    }
    if (world.cores.size() < 2) return fail(Error::of("the bench needs two cores"));
    rlimit descriptors{};
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    world.descriptors_max = static_cast<int>(std::min<rlim_t>(descriptors.rlim_max, 1 << 20));

    char folder[] = "/tmp/proxify-bench-XXXXXX";
    if (!mkdtemp(folder)) return fail(Error::from_errno(errno, "cannot make a folder in /tmp"));
    world.folder = folder;
    if (auto root = cgroup2_root(); !root.empty())
        world.cgroup = root / std::filesystem::path(folder).filename();
    return world;
}

std::string first_line_of(const std::string& command) {
    std::string line;
    if (FILE* pipe = popen((command + " 2>&1").c_str(), "r")) {
        char buffer[256];
        if (fgets(buffer, sizeof buffer, pipe)) line = buffer;
        pclose(pipe);
    }
    while (!line.empty() && isspace(static_cast<unsigned char>(line.back()))) line.pop_back();
    return line;
}

std::string value_in(const std::string& path, const std::string& name) {
    std::ifstream file(path);
    std::string line;
    while (std::getline(file, line)) {
        if (!line.starts_with(name)) continue;
        auto colon = line.find(':');
        auto begin = line.find_first_not_of(" \t", colon + 1);
        return begin == line.npos ? "" : line.substr(begin);
    }
    return "unknown";
}

About describe_run(const World& world, const Plan& plan, int argc, char** argv) {
    About about;
    utsname system{};
    uname(&system);
    about.machine = {{"CPU", format("{}, {} cores used", value_in("/proc/cpuinfo", "model name"),
                                    world.cores.size())},
                     {"kernel", format("{} {}", system.sysname, system.release)},
                     {"memory", value_in("/proc/meminfo", "MemTotal")},
                     {"descriptors", format("{} at most", world.descriptors_max)}};
    about.versions["proxify"] = first_line_of(world.proxify + " --version");
    about.versions["HAProxy"] =
        world.haproxy.empty() ? "not installed" : first_line_of(world.haproxy + " -v");
    about.versions["nginx"] =
        world.nginx.empty() ? "not installed" : first_line_of(world.nginx + " -v");
    about.command = "bench";
    for (int i = 1; i < argc; ++i) about.command += std::string(" ") + argv[i];
    char date[32];
    time_t now = time(nullptr);
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    about.date = date;
    about.repetitions = plan.repetitions;
    about.seconds = plan.timing.seconds;
    return about;
}

// ---- what is asked for

/// True if a list is not given, or names one of the words.
bool wants(const std::vector<std::string>& list, std::initializer_list<std::string> words) {
    if (list.empty()) return true;
    return std::ranges::any_of(words, [&](const std::string& word) {
        return std::ranges::find(list, word) != list.end();
    });
}

Result<Plan> make_plan(const Arguments& arguments, const World& world) {
    Plan plan;
    auto only = arguments.list("only"), sets = arguments.list("sets"),
         names = arguments.list("subjects");
    if (arguments.has("quick"))
        plan.timing = {.seconds = 0.4,
                       .warm_up = 0.1,
                       .idle_seconds = 0.5,
                       .port_samples = 1000,
                       .reloads = 4};
    plan.timing.seconds = arguments.number("seconds", plan.timing.seconds);
    plan.repetitions =
        std::max(1, static_cast<int>(arguments.number("repeat", arguments.has("quick") ? 1 : 3)));

    std::set<std::string> known{"pinned", "free"};
    for (const auto& subject : all_subjects()) known.insert(subject.id);
    for (auto& work : all_works()) {
        known.insert(work.group);
        bool wanted = wants(only, {work.group});
        for (const auto& row : work.rows) {
            known.insert(row.id);
            wanted = wanted || wants(only, {row.id});
        }
        if (wanted && wants(sets, {work.pinned ? "pinned" : "free"}))
            plan.works.push_back(std::move(work));
    }
    for (const auto& list : {only, sets, names}) {
        for (const auto& name : list) {
            if (!known.contains(name))
                return fail(
                    Error::of(format("nothing is called {}", name), "--list names all rows"));
        }
    }
    for (const auto& subject : all_subjects()) {
        bool installed = !(subject.program == Program::haproxy && world.haproxy.empty()) &&
                         !(subject.program == Program::nginx && world.nginx.empty());
        if (wants(names, {subject.id}) && installed) plan.subjects.push_back(subject);
    }
    bool whole = only.empty() && sets.empty() && names.empty() && !arguments.has("quick");
    plan.out = arguments.text("out", whole ? "docs/performance" : "");
    return plan;
}

void show_config(const World& world, const Plan& plan) {
    for (bool pinned : {true, false}) {
        for (const auto& subject : plan.subjects) {
            if (subject.program == Program::none) continue;
            std::string command;
            for (const auto& word : command_for(world, subject, subject.id + ".conf"))
                command += word + " ";
            std::cout << format("# ---- {}, {}\n# {}\n{}\n", subject.title,
                                pinned ? "pinned to one core" : "nothing pinned", command,
                                config_for(world, subject, {.pinned = pinned}));
        }
    }
}

// ---- measuring

/// Measures everything in turn: within a repetition each work meets all subjects before the next
/// work begins, and each repetition begins with another subject. Gives what went wrong.
std::vector<std::string> measure(const World& world, const Plan& plan, Results& results) {
    std::vector<std::string> failures;
    Context context{.world = world, .timing = plan.timing, .results = results};
    size_t total = static_cast<size_t>(plan.repetitions) * plan.works.size() * plan.subjects.size(),
           done = 0;
    for (int repetition = 0; repetition < plan.repetitions; ++repetition) {
        for (const auto& work : plan.works) {
            for (size_t i = 0; i < plan.subjects.size(); ++i) {
                const auto& subject =
                    plan.subjects[(i + static_cast<size_t>(repetition)) % plan.subjects.size()];
                std::cerr << format("\r\033[K[{}/{}] {}, {}", ++done, total, work.rows.front().id,
                                    subject.title)
                          << std::flush;
                auto result = work.run(context, work, subject);
                if (is_interrupted()) return failures.push_back("interrupted"), failures;
                if (result) continue;
                failures.push_back(format("{}, {}: {}", work.rows.front().id, subject.title,
                                          result.error().text()));
                std::cerr << "\n" << failures.back() << "\n";
            }
        }
    }
    std::cerr << "\r\033[K";
    return failures;
}

double own_cpu_seconds() {
    double sum = 0;
    for (int who : {RUSAGE_SELF, RUSAGE_CHILDREN}) {
        rusage usage{};
        getrusage(who, &usage);
        for (auto time : {usage.ru_utime, usage.ru_stime})
            sum += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
    }
    return sum;
}

int measure_and_report(const World& world, const Plan& plan, About about) {
    Results results;
    auto began = Clock::now();
    auto machine_before = machine_time();
    double own_before = own_cpu_seconds();
    auto failures = measure(world, plan, results);
    double passed = std::chrono::duration<double>(Clock::now() - began).count() *
                    static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
    auto machine_after = machine_time();
    about.stolen_share = (machine_after.stolen - machine_before.stolen) / passed;
    about.others_share =
        std::max(0.0, machine_after.busy - machine_before.busy - (own_cpu_seconds() - own_before)) /
        passed;

    derive_kernel_memory(results);
    auto goals = judge(results);
    std::cout << render_table(about, results, goals);
    if (!plan.out.empty() && !is_interrupted()) {
        std::filesystem::create_directories(plan.out);
        std::ofstream(plan.out + "/latest.json") << render_json(about, results, goals);
        for (const auto& [name, picture] : render_pictures(about, results))
            std::ofstream(plan.out + "/" + name) << picture;
    }
    for (const auto& failure : failures) std::cout << "FAILED " << failure << "\n";
    return failures.empty() ? 0 : 1;
}

int run(int argc, char** argv) {
    constexpr Known known[] = {{"quick", true},       {"only"},      {"sets"},
                               {"subjects"},          {"repeat"},    {"seconds"},
                               {"proxify"},           {"out"},       {"list", true},
                               {"show-config", true}, {"help", true}};
    auto arguments = Arguments::parse(argc, argv, known);
    if (!arguments) return std::cerr << arguments.error().text() << "\n", 2;
    if (arguments->has("help")) return std::cout << help, 0;
    signal(SIGPIPE, SIG_IGN);  // `bench --list | head` must clean up too
    auto world = look_around(*arguments);
    if (!world) return std::cerr << world.error().text() << "\n", 1;

    auto work_in = [&]() -> Result<int> {
        TRY_TO(plan, make_plan(*arguments, *world));
        if (arguments->has("list")) {
            for (const auto& work : plan.works) {
                for (const auto& row : work.rows)
                    std::cout << format("{:<22} {}\n", row.id, row.title);
            }
            return 0;
        }
        if (arguments->has("show-config")) return show_config(*world, plan), 0;
        auto about = describe_run(*world, plan, argc, argv);
        return in_arena([&] { return measure_and_report(*world, plan, about); });
    };
    auto code = work_in();
    std::error_code ignored;
    std::filesystem::remove_all(world->folder, ignored);
    // One that the arena was killed over; another way it is gone by now.
    if (!world->cgroup.empty()) rmdir(world->cgroup.c_str());
    if (!code) return std::cerr << code.error().text() << "\n", 1;
    return *code;
}

}  // namespace

}  // namespace proxify::bench

int main(int argc, char** argv) {
    return proxify::bench::run(argc, argv);
}
