// SPDX-License-Identifier: Apache-2.0
// What the parts of this room share: a list that grows, and some words.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/count_text.h"
#include "doctor/finding.h"

namespace proxify::doctor {

class Findings {
  public:
    void ok(std::string topic, std::string what) {
        add(Severity::ok, std::move(topic), std::move(what), {});
    }
    void note(std::string topic, std::string what, std::string remedy) {
        add(Severity::note, std::move(topic), std::move(what), std::move(remedy));
    }
    void warn(std::string topic, std::string what, std::string remedy) {
        add(Severity::warning, std::move(topic), std::move(what), std::move(remedy));
    }
    void fail(std::string topic, std::string what, std::string remedy) {
        add(Severity::error, std::move(topic), std::move(what), std::move(remedy));
    }
    void add(Severity severity, std::string topic, std::string what, std::string remedy) {
        list_.push_back({severity, std::move(topic), std::move(what), std::move(remedy)});
    }
    std::vector<Finding> take() && { return std::move(list_); }

  private:
    std::vector<Finding> list_;
};
/// A hint of another room, whose lines were broken for another width.
std::string paragraph(std::string text);

/// What `config` needs of the ports of `host`: who has them, who shadows whom, who may take them.
void judge_ports(const Host& host, const config::Config& config, const Start& start,
                 Findings& findings);

/// What the file's certificates and keys are worth today.
void judge_certificates(const Host& host, const config::Config& config, Findings& findings);

}  // namespace proxify::doctor
