// SPDX-License-Identifier: Apache-2.0
// Works: what is measured. A work sets up a subject, loads it, and adds figures to its row (some
// have several rows).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runner/results.h"
#include "runner/subject.h"

namespace proxify::bench {

struct Timing {
    double seconds = 2;  ///< of a measurement
    double warm_up = 0.4;
    double idle_seconds = 3;
    int port_samples = 5000;
    int reloads = 20;
};

struct Context {
    const World& world;
    const Timing& timing;
    Results& results;
};

struct Work {
    std::string group;
    bool pinned = true;
    std::vector<Row> rows;  ///< what it may add figures to
    std::function<Result<>(Context&, const Work&, const Subject&)> run;
};

std::vector<Work> all_works();

/// What it costs to come in by each door of proxify: a work for each (doors.cc).
void add_doors(std::vector<Work>& works);

/// What elements and the cache of a service cost, or save (elements.cc).
void add_elements(std::vector<Work>& works);

/// What TLS with clients costs (encrypted.cc).
void add_encrypted(std::vector<Work>& works);

/// Runs the load for the time that the context says; an error that it saw is a failure of the run.
Result<std::string> run_load(Context& context, Stage& stage, std::vector<std::string> words,
                             const std::vector<std::string>& address);
/// A number of the one flat line of JSON that the load prints.
double number_in(const std::string& line, const std::string& name);

}  // namespace proxify::bench
