// SPDX-License-Identifier: Apache-2.0
// What goes over HTTP, as values.
#pragma once

#include <map>
#include <string>

namespace proxify::http {

struct Request {
    std::string method = "GET";
    std::string path = "/";                    ///< "/v1/targets"; never decoded: ours need it not
    std::map<std::string, std::string> query;  ///< decoded; the last of a name counts
    std::string body = {};
};

struct Response {
    unsigned status = 200;
    std::string type = "application/json";
    std::string body;
};

/// The path, and the query behind it as a URL writes it.
std::string target_of(const Request& request);
/// The reverse. Whatever cannot be decoded stays as it is.
Request read_target(const std::string& method, const std::string& target);

}  // namespace proxify::http
