// SPDX-License-Identifier: Apache-2.0
// TempDir: a directory that goes away with everything in it.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace proxify::test {

class TempDir {
  public:
    TempDir();
    ~TempDir();
    TempDir(TempDir&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
    TempDir& operator=(TempDir&&) = delete;

    /// The full path of `name` in here.
    std::string operator/(std::string_view name) const { return path_ / name; }
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

/// Truncates the file and writes it again, in place, as a careless editor does.
void write_file(const std::string& path, std::string_view text);
/// Writes a file beside it and renames that over it, as a careful one does.
void replace_file(const std::string& path, std::string_view text);
std::string read_file(const std::string& path);

}  // namespace proxify::test
