// SPDX-License-Identifier: Apache-2.0
// Report: the figures for people (a table and pictures), for programs (JSON), and held against the
// goals.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "runner/results.h"

namespace proxify::bench {

/// What a reader must know about a run.
struct About {
    std::map<std::string, std::string> machine;   ///< cpu, cores, memory, kernel
    std::map<std::string, std::string> versions;  ///< of each program
    std::string command;
    std::string date;
    int repetitions = 0;
    double seconds = 0;
    double others_share = 0;  ///< of the machine's CPU time, used by programs that are not ours
    double stolen_share = 0;  ///< the same, taken by the host of a virtual machine
};

/// One goal, and whether it was reached; nothing when the run did not measure it.
struct Judgement {
    std::string work;
    std::string wanted;
    std::string measured;
    std::optional<bool> met;
};

/// The goals that proxify has set itself: ratios within one run.
std::vector<Judgement> judge(const Results& results);

/// Kernel memory is what the whole machine used more, less the same of *direct*: client and target
/// have sockets too.
void derive_kernel_memory(Results& results);

std::string render_table(const About& about, const Results& results,
                         const std::vector<Judgement>& goals);
std::string render_json(const About& about, const Results& results,
                        const std::vector<Judgement>& goals);

/// One picture for each group and set that was measured: file name to SVG. None of groups that do
/// not compare programs.
std::map<std::string, std::string> render_pictures(const About& about, const Results& results);

std::string number_text(double value, int decimals);

}  // namespace proxify::bench
