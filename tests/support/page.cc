// SPDX-License-Identifier: Apache-2.0
#include "support/page.h"

#include <filesystem>
#include <vector>

#include "support/catch.h"
#include "support/log_lines.h"
#include "support/process.h"
#include "support/proxify_process.h"
#include "support/temp_dir.h"

namespace proxify::test {
namespace {

struct Block {
    std::string language;
    std::vector<std::string> lines;
};

std::vector<Block> blocks_of(const std::string& document, const std::string& heading) {
    std::vector<Block> blocks;
    bool is_in_section = false, is_in_block = false;
    for (const auto& line : lines_of(read_file(source_root() + "/" + document))) {
        if (line.starts_with("```")) {
            is_in_block = !is_in_block;
            if (is_in_block && is_in_section) blocks.push_back({line.substr(3), {}});
        } else if (is_in_block) {
            if (is_in_section) blocks.back().lines.push_back(line);
        } else if (line.starts_with("## ")) {
            is_in_section = line == "## " + heading;
        }
    }
    return blocks;
}

class Visitor {
  public:
    explicit Visitor(const Place& place) : place_(place) {
        namespace fs = std::filesystem;
        fs::create_directories(directory_ / "build/tests");
        fs::create_symlink(place.echo_server, directory_ / "build/tests/echo");
        fs::create_symlink(proxify_binary(), directory_ / "proxify");
    }

    void write(const Block& block) {
        REQUIRE_FALSE(block.lines.empty());
        const std::string& first = block.lines.front();
        std::string text;
        for (const auto& line : block.lines) text += line + "\n";
        replace_file(directory_ / first.substr(first.rfind(' ') + 1), text);
    }

    void type(const Block& block) {
        for (size_t i = 0; i < block.lines.size();) {
            REQUIRE(block.lines[i].starts_with("$ "));
            const std::string command = block.lines[i].substr(2);
            std::string printed;
            for (++i; i < block.lines.size() && !block.lines[i].starts_with("$ "); ++i)
                printed += block.lines[i] + "\n";
            if (command.ends_with(" &"))
                begin(command.substr(0, command.size() - 2));
            else
                expect(command, printed);
        }
    }

  private:
    Command in_shell(const std::string& command) const {
        return {.argv = {"bash", "-c", command},
                .inside = &place_.inside,
                .directory = directory_.path()};
    }
    void begin(const std::string& command) {
        running_.push_back(Child::start(in_shell("exec " + command)));
    }
    void expect(const std::string& command, const std::string& printed) {
        Finished last;
        eventually([&] {
            last = run(in_shell(command));
            return last.out == printed;
        });
        INFO("$ " << command);
        INFO(last.err);
        REQUIRE(last.out == printed);
    }

    const Place& place_;
    TempDir directory_;
    std::vector<Child> running_;
};

}  // namespace

void follow_page(const Place& place, const std::string& document, const std::string& heading) {
    Visitor visitor(place);
    int commands = 0;
    for (const auto& block : blocks_of(document, heading)) {
        if (block.language == "console") {
            visitor.type(block);
            ++commands;
        } else if (block.language == "toml" || block.language == "lua") {
            visitor.write(block);
        }
    }
    REQUIRE(commands > 0);
}

}  // namespace proxify::test
