// Command line of the native harness: `--name value` pairs, written by sim/cosim/job.py.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>

class Options {
  public:
    Options(int argc, char** argv) {
        for (int i = 1; i < argc; i += 2) {
            const std::string name = argv[i];
            if (name.rfind("--", 0) != 0 || i + 1 >= argc)
                throw std::runtime_error("expected `--name value`, got " + name);
            values_[name.substr(2)] = argv[i + 1];
        }
    }

    const std::string& text(const std::string& name) const {
        const auto found = values_.find(name);
        if (found == values_.end()) throw std::runtime_error("missing option --" + name);
        return found->second;
    }

    std::string text(const std::string& name, const std::string& fallback) const {
        const auto found = values_.find(name);
        return found == values_.end() ? fallback : found->second;
    }

    uint64_t number(const std::string& name) const { return parse(name, text(name)); }

    uint64_t number(const std::string& name, uint64_t fallback) const {
        const auto found = values_.find(name);
        return found == values_.end() ? fallback : parse(name, found->second);
    }

  private:
    static uint64_t parse(const std::string& name, const std::string& value) {
        char* end = nullptr;
        const uint64_t number = std::strtoull(value.c_str(), &end, 0);
        if (value.empty() || *end) throw std::runtime_error("--" + name + " is no number: " + value);
        return number;
    }

    std::map<std::string, std::string> values_;
};
