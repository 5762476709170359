// SPDX-License-Identifier: Apache-2.0
#include "support/temp_dir.h"

#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>

namespace proxify::test {

TempDir::TempDir() {
    std::string name = std::filesystem::temp_directory_path() / "proxify-test-XXXXXX";
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make a directory like " + name);
    path_ = name;
    // Some tests run proxify as an ordinary user, who has to read what is in here.
    chmod(name.c_str(), 0755);
}

TempDir::~TempDir() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::string_view text) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << text;
    if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

void replace_file(const std::string& path, std::string_view text) {
    write_file(path + ".new", text);
    std::filesystem::rename(path + ".new", path);
}

std::string read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace proxify::test
