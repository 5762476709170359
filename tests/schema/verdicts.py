# SPDX-License-Identifier: Apache-2.0
"""What a JSON schema says of TOML texts, for schema_test.cc.

verdicts.py SCHEMA: on standard input each text follows its length in bytes and a newline. For each
a line comes back, "accepts" or "rejects" with the reason.

verdicts.py SCHEMA defaults: one text comes back, in which every key that has a default is written with it.
"""
import json
import sys
import tomllib

import jsonschema


def verdict(validator, text):
    try:
        file = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        return "rejects not TOML: %s" % error
    error = next(validator.iter_errors(file), None)
    if error is None:
        return "accepts"
    return "rejects /%s: %s" % ("/".join(map(str, error.absolute_path)), error.message[:200])


def judge(schema, texts, out):
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    while length := texts.readline():
        out.write(verdict(validator, texts.read(int(length))).replace("\n", " ") + "\n")


def defaults(schema, out):
    def section(name):
        for key, about in schema["definitions"][name]["properties"].items():
            if "default" in about:
                # For numbers, words and truth JSON and TOML are the same.
                out.write("%s = %s\n" % (key, json.dumps(about["default"])))

    for name in ("proxify", "log"):
        out.write("[%s]\n" % name)
        section(name)
    out.write('[[service]]\nname = "web"\nports = 5001\n')
    section("service")
    out.write("[[service.targets]]\naddress = '10.0.0.1:80'\n")
    section("target")
    for name in ("health", "timeouts", "queue", "ejection", "limits"):
        out.write("[service.%s]\n" % name)
        section(name)
    # These do something as soon as they are there, so they are in a service of their own.
    out.write('[[service]]\nname = "other"\nports = 5002\ntargets = "10.0.0.1:80"\n[service.cache]\n')
    section("cache")


with open(sys.argv[1]) as file:
    schema = json.load(file)
if sys.argv[2:] == ["defaults"]:
    defaults(schema, sys.stdout)
else:
    judge(schema, sys.stdin.buffer, sys.stdout)
