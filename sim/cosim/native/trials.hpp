// Disturbed runs on one core, each followed by an undisturbed one that must give what the first gave.
//
// `--trials` is a file of records (kind, code, at); `--outcomes` gets one record for each.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "parameters.hpp"
#include "simulation.hpp"

class Trials {
  public:
    // `start` writes the registers and START; `data` is the memory, `size` bytes.
    Trials(Simulation& simulation, uint8_t* data, uint64_t size, std::function<void()> start)
        : simulation_(simulation), data_(data), before_(data, data + size), start_(start) {}

    void run(const std::string& wanted, const std::string& outcomes) {
        simulation_.reset();
        const Outcome whole = complete();
        after_.assign(data_, data_ + before_.size());
        std::ofstream results(outcomes, std::ios::binary);
        put(results, {whole.error, whole.idle, 0, 1, whole.cycles});
        std::ifstream file(wanted, std::ios::binary);
        Trial trial;
        while (file.read(reinterpret_cast<char*>(&trial), sizeof trial)) {
            const Outcome disturbed = disturb(trial);
            const Outcome again = complete();
            const bool equal = !std::memcmp(data_, after_.data(), after_.size());
            put(results, {disturbed.error, disturbed.idle, again.error, equal && again.idle,
                          disturbed.cycles});
        }
        if (!results.flush()) throw std::runtime_error("cannot write " + outcomes);
    }

  private:
    enum Kind : uint32_t { ABORT, READ, WRITE, RESET };
    struct Trial {
        uint32_t kind, code;
        uint64_t at;
    };
    struct Result {
        uint32_t error, idle, again, equal;
        uint64_t cycles;
    };
    struct Outcome {
        uint32_t error = 0, idle = 0;
        uint64_t cycles = 0;
    };

    static void put(std::ofstream& file, const Result& result) {
        file.write(reinterpret_cast<const char*>(&result), sizeof result);
    }

    void begin() {
        std::memcpy(data_, before_.data(), before_.size());
        start_();
        first_ = simulation_.cycle();
    }

    // Wait for the interrupt; what the registers say.
    Outcome finish() {
        while (!simulation_.irq()) simulation_.tick();
        Outcome outcome;
        outcome.cycles = simulation_.cycle() - first_;
        outcome.idle = simulation_.memory().idle();
        outcome.error = simulation_.read(registers::ERROR_CODE);
        const uint32_t status = simulation_.read(registers::STATUS);
        outcome.idle = outcome.idle && !(status & registers::STATUS_BUSY);
        simulation_.write(registers::CONTROL, registers::CLEAR_IRQ);
        return outcome;
    }

    Outcome complete() {
        begin();
        return finish();
    }

    Outcome disturb(const Trial& trial) {
        if (trial.kind == READ || trial.kind == WRITE)
            simulation_.memory().fail(trial.kind == WRITE, trial.at, trial.code);
        begin();
        if (trial.kind == ABORT || trial.kind == RESET)
            while (!simulation_.irq() && simulation_.cycle() - first_ < trial.at) simulation_.tick();
        if (trial.kind == RESET) {
            simulation_.memory().forget();
            simulation_.reset();
            Outcome outcome;
            outcome.idle = !(simulation_.read(registers::STATUS) & registers::STATUS_BUSY);
            return outcome;
        }
        if (trial.kind == ABORT) simulation_.write(registers::CONTROL, registers::ABORT);
        const Outcome outcome = finish();
        simulation_.memory().fail(false, ~uint64_t(0), 0);
        return outcome;
    }

    Simulation& simulation_;
    uint8_t* data_;
    std::vector<uint8_t> before_, after_;
    std::function<void()> start_;
    uint64_t first_ = 0;
};
